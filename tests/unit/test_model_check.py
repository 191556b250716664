"""Rules that need more than one value or resource: each breaks alone, and says what to write."""

import copy
from typing import Any

import pytest
import yaml

from fairlead.model.bundle import Bundle, collect, decode
from fairlead.model.check import check, check_connection, check_policy
from fairlead.model.checks.expression import wrong
from fairlead.model.document import parse
from fairlead.model.problem import Problem, Reason
from support import manifests
from support.manifests import Manifest, with_values, without

CONNECTOR = manifests.full_connector()
CRM = manifests.connection()
ERP = without(manifests.database(), "spec.auth")
POLICY = manifests.policy()
ARCHIVE = {"set": {"status": "archived"}}
EMAIL = "spec.systems.0.fields.email"
NAME = "spec.systems.0.fields.name"


def bundle_of(*documents: Manifest) -> Bundle:
    return collect(parse(yaml.safe_dump_all([copy.deepcopy(document) for document in documents]), "f.yaml"), {})


def problems(
    policy: Manifest, *others: Manifest, crm: Manifest = CRM, erp: Manifest = ERP, connector: Manifest = CONNECTOR
) -> list[Problem]:
    """What is wrong with the first policy."""
    connections = {f"default/{each['metadata']['name']}": decode("Connection", each) for each in (crm, erp)}
    return check_policy(
        decode("SyncPolicy", policy),
        connections,
        {"shop": decode("Connector", connector)},
        [decode("SyncPolicy", other) for other in others],
    )


def told(policy: Manifest, *others: Manifest, **resources: Manifest) -> list[str]:
    return [str(problem) for problem in problems(policy, *others, **resources)]


def test_valid_resources_have_no_problems() -> None:
    bundle = bundle_of(CONNECTOR, CRM, ERP, POLICY)
    assert (bundle.problems, check(bundle)) == ([], [])


def test_design_example_is_valid() -> None:
    policy = with_values(
        POLICY,
        {
            "spec.schema.properties.phone": {"type": "string"},
            "spec.schema.properties.tags": {"type": "array", "items": {"type": "string"}},
            "spec.schema.properties.credit": {"type": "number", "multipleOf": 0.01},
            "spec.systems.0.fields.phone": "properties.phone",
            "spec.systems.0.fields.tags": {"path": "properties.segments", "split": ";"},
            NAME: {
                "read": "properties.firstname + ' ' + properties.lastname",
                "write": {"properties.firstname": "name.split(' ')[0]", "properties.lastname": "name.split(' ')[1]"},
            },
            "spec.systems.0.filter": "properties.lifecyclestage == 'customer'",
            "spec.systems.1.fields.credit": "credit",
            "spec.systems.1.modified": "updated",
            "spec.systems.1.fields.phone": "phone",
            "spec.fields": {
                "credit": {"systemOfRecord": "erp", "edits": "SystemOfRecordOnly"},
                "phone": {"onConflict": "LatestWins"},
            },
        },
    )
    assert told(policy) == []


NO_TYPE = (
    "spec.schema.properties.email.type: is not JSON Schema: a type is one of string, number, integer, boolean, array, "
    "object, null, or a list of them"
)

BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "schema is not JSON Schema": (
        {"spec.schema.properties.email": {"type": "strin"}},
        f"{NO_TYPE}: did you mean 'string'?",
    ),
    "schema has a list with an unknown type": (
        {"spec.schema.properties.email": {"type": ["null", "text"]}},
        NO_TYPE,
    ),
    "schema refers to another place": (
        {"spec.schema.properties.email": {"$ref": "https://example.com/x.json"}},
        'spec.schema.properties.email["$ref"]: may only refer into this schema: write #/$defs/…',
    ),
    "schema refers to nothing": (
        {"spec.schema.properties.email": {"$ref": "#/$defs/x"}},
        "spec.schema: cannot be used as a schema: Pointer '/$defs/x' does not exist",
    ),
    "schema has a bad pattern": (
        {"spec.schema.properties.email": {"pattern": "("}},
        "spec.schema.properties.email.pattern: is not JSON Schema: '(' is not a 'regex'",
    ),
    "schema is no object": (
        {"spec.schema.type": "array"},
        "spec.schema: must say `type: object`: a record is an object",
    ),
    "field name that CEL cannot use": (
        {"spec.schema.properties.e-mail": {"type": "string"}},
        (
            "spec.schema.properties.e-mail: a field's name is up to 63 letters, digits and '_', "
            "beginning with a letter, so that CEL can use it"
        ),
    ),
    "field without a schema": (
        {"spec.schema.properties.email": True},
        "spec.schema.properties.email: must be a schema, for example {type: string}",
    ),
    "required field that is none": (
        {"spec.schema.required": ["emial"]},
        "spec.schema.required[0]: no field is named 'emial': did you mean 'email'?",
    ),
    "required field that no system has": (
        {"spec.schema.required": ["tax"], "spec.schema.properties.tax": {"type": "string"}},
        (
            "spec.schema.required[0]: tax is required but mapped in no system: map it in systems[].fields, "
            "or do not require it"
        ),
    ),
    "unknown system of record": (
        {"spec.systemOfRecord": "crn"},
        "spec.systemOfRecord: no system is named 'crn': did you mean 'crm'?",
    ),
    "unknown system in priority": (
        {"spec.priority": ["erb"]},
        "spec.priority[0]: no system is named 'erb': did you mean 'erp'?",
    ),
    "unknown system of record of a field": (
        {"spec.fields": {"name": {"systemOfRecord": "x"}}},
        "spec.fields.name.systemOfRecord: no system is named 'x'; known are crm, erp",
    ),
    "unknown system in a field's priority": (
        {"spec.fields": {"name": {"priority": ["crm", "x"]}}},
        "spec.fields.name.priority[1]: no system is named 'x'; known are crm, erp",
    ),
    "rules of an unknown field": (
        {"spec.fields": {"nmae": {"edits": "Anywhere"}}},
        "spec.fields.nmae: the schema has no field 'nmae': did you mean 'name'?",
    ),
    "mapping of an unknown field": (
        {"spec.systems.0.fields.phone": "phone"},
        "spec.systems[0].fields.phone: the schema has no field 'phone'; known are email, name",
    ),
    "mapping that is a number": (
        {NAME: 5},
        "spec.systems[0].fields.name: write a path, {path: some.path} or {read: CEL, write: {some.path: CEL}}",
    ),
    "mapping with path and read": (
        {NAME: {"path": "a", "read": "b"}},
        "spec.systems[0].fields.name: write a path, {path: some.path} or {read: CEL, write: {some.path: CEL}}",
    ),
    "mapping with an unknown part": (
        {NAME: {"path": "a", "splt": ";"}},
        "spec.systems[0].fields.name: unknown field 'splt': did you mean 'split'?",
    ),
    "mapping with a part of the wrong type": (
        {NAME: {"path": 5}},
        "spec.systems[0].fields.name: path: Expected `str`, got `int`",
    ),
    "empty path": ({NAME: ""}, "spec.systems[0].fields.name: a path has 1 to 256 characters"),
    "empty written path": (
        {NAME: {"read": "a", "write": {"": "name"}}},
        "spec.systems[0].fields.name: a path has 1 to 256 characters",
    ),
    "empty separator": (
        {NAME: {"path": "a", "split": ""}},
        "spec.systems[0].fields.name: split must be the text between the parts, for example ';'",
    ),
    "list of a field that is none": (
        {NAME: {"path": "a", "split": ";"}},
        (
            "spec.systems[0].fields.name.split: split makes a list: give the field `type: array` in the schema, "
            "or leave split out"
        ),
    ),
    "values that cannot be read backwards": (
        {NAME: {"path": "a", "values": {"x": "1", "y": "1"}}},
        (
            "spec.systems[0].fields.name.values: more than one native value means '1', so it is not clear which "
            "to write: keep one, or use {read, write}"
        ),
    ),
    "one attribute written twice": (
        {NAME: "properties.email"},
        (
            "spec.systems[0].fields.name: writes 'properties.email', as email does: map one of them, "
            "or give one only {read: …}"
        ),
    ),
    "only written, but cannot be": (
        {"spec.systems.1.access": "WriteOnly", "spec.systems.1.fields.name": {"read": "a"}},
        "spec.systems[1].fields.name: a WriteOnly system is not read: add write, or leave the field out",
    ),
    "filter that is no CEL": (
        {"spec.systems.0.filter": "a =="},
        "spec.systems[0].filter: is not CEL: 1:5: Syntax error: mismatched input '<EOF>'",
    ),
    "read that calls what is not there": (
        {NAME: {"read": "properties.name.tirm()"}},
        "spec.systems[0].fields.name.read: calls an unknown function 'tirm': did you mean 'trim'?",
    ),
    "write that uses what is no field": (
        {NAME: {"read": "a", "write": {"x.y": "nmae"}}},
        "spec.systems[0].fields.name.write[\"x.y\"]: uses 'nmae', which is no field: did you mean 'name'?",
    ),
    "write that uses another field": (
        {NAME: {"read": "a", "write": {"x.y": "name + email"}}},
        'spec.systems[0].fields.name.write["x.y"]: may use name alone: the other fields are not known then',
    ),
    "owner that does not have its field": (
        {"spec.systems.0.fields": {"email": "email"}},
        (
            "spec.systemOfRecord: crm owns name but does not map it: map it there, or name another system in "
            "fields.name.systemOfRecord"
        ),
    ),
    "owner of a field that is only written": (
        {"spec.systems.1.access": "WriteOnly", "spec.fields": {"name": {"systemOfRecord": "erp"}}},
        (
            "spec.fields.name.systemOfRecord: erp owns name but is WriteOnly: give it access ReadWrite, "
            "or name another system"
        ),
    ),
    "match by an unknown field": (
        {"spec.match": [{"fields": ["email"]}, {"fields": ["emial"]}]},
        "spec.match[1].fields[0]: the schema has no field 'emial': did you mean 'email'?",
    ),
    "system that cannot be matched": (
        {"spec.systems.1.fields": {"name": "name"}},
        "spec.systems[1].fields: its records cannot be matched: map email",
    ),
    "LatestWins without times": (
        {"spec.fields": {"name": {"onConflict": "LatestWins"}}},
        "spec.systems[1]: LatestWins on name compares times: name the attribute that holds it in modified",
    ),
    "schedule that is no cron": (
        {"spec.trigger": {"resyncSchedule": "61 * * * *"}},
        (
            "spec.trigger.resyncSchedule: is not a cron expression (bad minute): write five parts, "
            "for example 0 3 * * * for 03:00 every day"
        ),
    ),
    "schedule that never comes": (
        {"spec.trigger": {"resyncSchedule": "0 3 31 2 *"}},
        (
            "spec.trigger.resyncSchedule: is not a cron expression (bad day-of-month): write five parts, "
            "for example 0 3 * * * for 03:00 every day"
        ),
    ),
    "interval below a second": (
        {"spec.trigger": {"interval": "500ms"}},
        "spec.trigger.interval: an interval must be at least 1s",
    ),
    "interval that is none": (
        {"spec.trigger": {"interval": "soon"}},
        "spec.trigger: 'soon' is not a duration; write for example 500ms, 30s, 5m or 1h30m",
    ),
    "stale before the next run": (
        {"spec.trigger": {"interval": "1h"}},
        "spec.staleAfter: must be longer than trigger.interval, or the policy would never be Ready",
    ),
    "unknown connection": (
        {"spec.systems.0.connection": "crn"},
        "spec.systems[0].connection: namespace default has no Connection 'crn': did you mean 'crm'?",
    ),
    "both systems are the same": (
        {"spec.systems.1.connection": "crm", "spec.systems.1.object": "contacts"},
        "spec.systems[1].object: is the same object as system crm: a policy needs two different ones",
    ),
}


@pytest.mark.parametrize(("change", "expected"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_policy_is_told_what_to_write(change: dict[str, Any], expected: str) -> None:
    assert [expected] == told(with_values(POLICY, change))


def test_schema_without_fields_is_told() -> None:
    found = told(without(POLICY, "spec.schema.properties"))
    assert "spec.schema: must have properties: they are the canonical fields" in found


def test_unknown_connector_is_told_at_the_connection_and_at_the_policy() -> None:
    lost = with_values(CRM, {"spec.connector": "shpo"})
    message = "there is no Connector 'shpo': did you mean 'shop'?"
    by_connection = check_connection(decode("Connection", lost), {"shop": decode("Connector", CONNECTOR)})
    assert [f"spec.connector: {message}"] == list(map(str, by_connection))
    assert [f"spec.systems[0].connection: Connection crm: {message}"] == told(POLICY, crm=lost)


def test_a_port_that_cannot_be_is_told() -> None:
    found = check(bundle_of(CONNECTOR, with_values(CRM, {"spec.url": "https://crm:70000"})))
    expected = "its host or port cannot be: write for example https://api.example.com:8443 or http://[::1]:8080"
    assert [expected] == [problem.message for problem in found]


def test_a_connection_whose_file_was_not_named_is_told_so() -> None:
    problems = check_policy(decode("SyncPolicy", POLICY), {}, {}, ())
    expected = "spec.systems[0].connection: namespace default has no Connection 'crm': apply it, or name its file too"
    assert expected == str(problems[0])


def test_unknown_object_is_told() -> None:
    policy = with_values(POLICY, {"spec.systems.0.object": "contact"})
    expected = "spec.systems[0].object: connector shop has no object 'contact': did you mean 'contacts'?"
    assert [expected] == told(policy)


def test_any_object_may_be_offered() -> None:
    policy = with_values(POLICY, {"spec.systems.0.object": "anything"})
    assert told(policy, connector=with_values(CONNECTOR, {"spec.objects.0.name": "*"})) == []


def test_connector_that_cannot_write_is_told() -> None:
    connector = without(without(CONNECTOR, "spec.objects.0.write.upsert"), "spec.objects.0.write.update")
    expected = (
        "spec.systems[0].access: connector object 'contacts' has no write.update: "
        "write access: ReadOnly, or use a Connector that declares it"
    )
    assert [expected] == told(POLICY, connector=connector)


def test_upsert_is_create_and_update() -> None:
    connector = CONNECTOR
    for name in ("create", "update", "createBatch"):
        connector = without(connector, f"spec.objects.0.write.{name}")
    assert told(POLICY, connector=connector) == []


def test_a_system_that_is_only_read_needs_no_write() -> None:
    connector = without(CONNECTOR, "spec.objects.0.write")
    assert told(with_values(POLICY, {"spec.systems.0.access": "ReadOnly"}), connector=connector) == []


@pytest.mark.parametrize(
    ("change", "needed"),
    [
        ({}, False),
        ({"spec.systemOfRecord": "erp"}, True),
        ({"spec.systemOfRecord": "erp", "spec.deletes": {"propagate": "Never"}}, False),
        ({"spec.deletes": {"propagate": "FromAny"}}, True),
        ({"spec.systems.1.filter": "a", "spec.systems.1.onLeave": "Delete"}, True),
        ({"spec.systems.1.archive": ARCHIVE, "spec.systems.1.onLeave": "Delete"}, True),
        (
            {
                "spec.deletes": {"propagate": "FromAny", "action": "Archive"},
                **{f"spec.systems.{n}.archive": ARCHIVE for n in (0, 1)},
            },
            False,
        ),
    ],
)
def test_delete_is_needed_where_deletes_arrive(change: dict[str, Any], needed: bool) -> None:
    found = told(with_values(POLICY, change), connector=without(CONNECTOR, "spec.objects.0.write.delete"))
    expected = (
        "spec.systems[0].object: connector object 'contacts' has no write.delete: "
        "write deletes: {action: Archive} or {propagate: Never}, or use a Connector that declares it"
    )
    assert ([expected] if needed else []) == found


@pytest.mark.parametrize(
    ("path", "value"), [("status", None), ("status", ["archived"]), ("status", {}), ("status", ""), (" ", 1)]
)
def test_what_an_archived_record_says_can_be_compared(path: str, value: Any) -> None:
    (found,) = told(with_values(POLICY, {"spec.systems.1.archive": {"set": {path: value}}}))
    expected = "a path has 1 to 256 characters" if path == " " else "status must be text, a number, true or false"
    assert found.partition(": ")[2].startswith(expected)


OTHER = with_values(POLICY, {"metadata.name": "leads"})


def test_overlap_is_found_where_one_archives_by_what_the_other_writes() -> None:
    policy = with_values(POLICY, {"spec.systems.1.access": "ReadOnly", "spec.systems.0.archive.set": {"stage": "x"}})
    change = {"spec.systems.0.fields": {"email": "other", "name": "stage"}, "spec.systems.1.access": "ReadOnly"}
    (found,) = problems(policy, with_values(OTHER, change))
    assert (found.reason, found.path[-3:]) == (Reason.POLICY_OVERLAP, ("archive", "set", "stage"))


def test_two_policies_that_write_the_same_are_both_refused() -> None:
    both = [problems(POLICY, OTHER), problems(OTHER, POLICY)]
    assert [{Reason.POLICY_OVERLAP}] * 2 == [{problem.reason for problem in found} for found in both]


def test_overlap_names_the_other_policy_and_the_attribute() -> None:
    policy = with_values(POLICY, {"spec.systems.1.access": "ReadOnly"})
    other = with_values(OTHER, {"spec.systems.0.fields.name": "other", "spec.systems.1.access": "ReadOnly"})
    expected = (
        "spec.systems[0].fields.email: SyncPolicy default/leads writes 'properties.email' of contacts too: "
        "let one of them only read it, or leave the field out"
    )
    assert [expected] == told(policy, other)


@pytest.mark.parametrize(
    "change",
    [
        {"spec.mode": "Plan"},
        {"spec.systems.0.access": "ReadOnly", "spec.systems.1.access": "ReadOnly"},
        {"spec.systems.0.object": "leads", "spec.systems.1.object": "lead"},
        {"metadata.name": "customers"},
    ],
    ids=["plan", "only read", "other objects", "itself"],
)
def test_policies_that_do_not_write_the_same_are_fine(change: dict[str, Any]) -> None:
    assert [problem for problem in problems(POLICY, with_values(OTHER, change)) if "leads" not in str(problem)] == []
    assert Reason.POLICY_OVERLAP not in {p.reason for p in problems(POLICY, with_values(OTHER, change))}


def test_overlap_is_found_through_another_connection_to_the_same_place() -> None:
    erp = with_values(ERP, {"spec.url": "postgresql://DB.example.com:5432/erp/?application_name=x"})
    connections = {
        "default/crm": decode("Connection", CRM),
        "default/erp": decode("Connection", ERP),
        "sales/crm": decode("Connection", with_values(CRM, {"spec.url": "https://other.example.com"})),
        "sales/erp": decode("Connection", erp),
    }
    other = decode(
        "SyncPolicy", with_values(OTHER, {"metadata.namespace": "sales", "spec.systems.1.object": "customer"})
    )
    found = check_policy(decode("SyncPolicy", POLICY), connections, {"shop": decode("Connector", CONNECTOR)}, [other])
    assert {("spec", "systems", 1, "fields", "email"), ("spec", "systems", 1, "fields", "name")} == {
        p.path for p in found
    }


def test_what_is_missing_is_its_own_reason() -> None:
    lost = problems(with_values(POLICY, {"spec.systems.0.connection": "x"}))
    unknown = problems(POLICY, crm=with_values(CRM, {"spec.connector": "x"}))
    assert [p.reason for p in (*lost, *unknown)] == [Reason.CONNECTION_NOT_FOUND, Reason.CONNECTOR_NOT_FOUND]


def test_bundle_problems_have_file_and_line() -> None:
    bundle = bundle_of(CONNECTOR, CRM, ERP, with_values(POLICY, {"spec.systems.0.connection": "x"}))
    (problem,) = check(bundle)
    assert ("f.yaml", bundle.documents["SyncPolicy", "default/customers"].line_of(problem.path)) == (
        problem.file,
        problem.line,
    )


def test_a_broken_connection_is_not_also_missing() -> None:
    bundle = bundle_of(CONNECTOR, with_values(CRM, {"spec.suspend": "x"}), ERP, POLICY)
    assert (len(bundle.problems), check(bundle)) == (1, [])


def test_a_broken_connector_is_not_also_missing() -> None:
    bundle = bundle_of(with_values(CONNECTOR, {"spec.x": 1}), CRM, ERP, POLICY)
    assert (len(bundle.problems), check(bundle)) == (1, [])


def test_an_unknown_connector_is_told_once() -> None:
    assert [problem.where for problem in check(bundle_of(CRM, ERP, POLICY))] == ["spec.connector"]


@pytest.mark.parametrize(
    "source",
    ["a.b == 'x'", "has(a.b) && a.b.size() > 0", "a.map(x, x.trim()).join(',')", "math.abs(a) > 1.0", "a in ['x']"],
)
def test_expressions_of_the_extension_libraries_are_fine(source: str) -> None:
    assert wrong(source, ["a"]) is None


@pytest.mark.parametrize("source", ["", "  ", "a" * 3000, "(" * 2000, "'x", "a.b(", "\x00", "x ? y"])
def test_no_expression_raises(source: str) -> None:
    assert isinstance(wrong(source), str)
