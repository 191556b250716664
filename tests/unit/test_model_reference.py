"""What `fairlead validate` and the operator say of references between policies."""

from typing import Any

import pytest
import yaml

from fairlead.model.bundle import Bundle, collect, decode
from fairlead.model.check import check, check_policy, notes
from fairlead.model.checks.reference import apart
from fairlead.model.document import parse
from support import manifests
from support.manifests import Manifest, with_values

TEXT = {"type": "string"}
POSTGRES = {"store": "Postgres", "connection": "state"}
FIELD = "spec.fields.customer.references"


def connection(name: str) -> Manifest:
    url = "postgresql://db/state" if name == "state" else f"sqlite:///{name}.db"
    return {**manifests.database(), "metadata": {"name": name}, "spec": {"connector": "sql", "url": url}}


def policy(name: str, table: str, reference: str, target: str | None, **changes: Any) -> Manifest:
    """A policy over `crm` and `erp` whose field refers to another policy; changes by dotted path below `spec`."""
    spec = {
        "entity": "Thing",
        "schema": {"type": "object", "properties": {"number": TEXT, reference: TEXT}},
        "match": [{"fields": ["number"]}],
        "systems": [
            {"name": s, "connection": s, "object": table, "fields": {"number": "number", reference: reference}}
            for s in ("crm", "erp")
        ],
        "systemOfRecord": "crm",
        **({"fields": {reference: {"references": target}}} if target else {}),
    }
    whole = {**manifests.policy(), "metadata": {"name": name}, "spec": spec}
    return with_values(whole, {f"spec.{path.replace('__', '.')}": value for path, value in changes.items()})


def customers(**changes: Any) -> Manifest:
    return policy("customers", "customer", "favourite", changes.pop("target", None), **changes)


def sales(**changes: Any) -> Manifest:
    return policy("sales", "sale", "customer", changes.pop("target", "customers"), **changes)


def told(*policies: Manifest) -> list[str]:
    """What is wrong with the first policy."""
    decoded = [decode("SyncPolicy", each) for each in policies]
    connections = {f"default/{n}": decode("Connection", connection(n)) for n in ("crm", "erp", "crm2", "state")}
    return [str(problem) for problem in check_policy(decoded[0], connections, {}, decoded)]


def test_a_reference_to_a_policy_over_the_same_connections_is_right() -> None:
    assert told(sales(), customers()) == []
    assert told(sales(state=POSTGRES), customers(state=POSTGRES)) == []


def test_a_policy_may_refer_to_itself() -> None:
    assert told(customers(target="customers")) == []


def test_a_policy_that_is_not_there_is_told_with_the_one_that_was_meant() -> None:
    assert told(sales(target="customer"), customers()) == [
        f"{FIELD}: namespace default has no SyncPolicy 'customer': did you mean 'customers'?"
    ]


def test_a_policy_of_another_namespace_is_told() -> None:
    elsewhere = with_values(customers(), {"metadata.namespace": "other"})
    assert told(sales(), elsewhere) == [
        (
            f"{FIELD}: namespace default has no SyncPolicy 'customers' (there is one in other): both "
            f"policies must be in one namespace"
        )
    ]


def test_a_system_that_the_other_policy_lacks_is_told() -> None:
    assert told(sales(systems__0__connection="crm2"), customers()) == [
        (
            "spec.systems[0].fields.customer: SyncPolicy customers has no system over Connection crm2, "
            "so ids cannot be translated: add one there, or leave customer out here"
        )
    ]
    unmapped = sales(systems__0__connection="crm2", systems__0__fields={"number": "number"}, systemOfRecord="erp")
    assert told(unmapped, customers()) == []


def test_two_systems_over_one_connection_are_told() -> None:
    (message,) = told(sales(), customers(systems__1__connection="crm", systems__1__object="other"))[:1]
    assert message.startswith(
        "spec.systems[0].fields.customer: SyncPolicy customers has several systems over Connection "
        "crm (crm, erp), so it is not clear whose ids these are"
    )


@pytest.mark.parametrize(
    ("mine", "theirs"), [(POSTGRES, None), (None, POSTGRES), (POSTGRES, {"store": "Postgres", "connection": "crm"})]
)
def test_states_in_different_places_are_told(mine: Any, theirs: Any) -> None:
    parent = customers(**({"state": theirs} if theirs else {}))
    assert told(sales(**({"state": mine} if mine else {})), parent) == [
        (
            f"{FIELD}: SyncPolicy customers keeps its state elsewhere, so its cross-references cannot be "
            f"read: give both the same state.store and state.connection"
        )
    ]


REQUIRED = {"schema__required": ["number", "customer"]}


def test_policies_that_need_each_other_are_refused_and_the_way_is_told() -> None:
    child = sales(**REQUIRED)
    parent = customers(target="sales", schema__required=["favourite"])
    expected = (
        "need each other before they can be created: take the reference out of schema.required (and "
        "out of match) in one of them, and it is filled in afterwards"
    )
    assert told(child, parent) == [f"{FIELD}: sales → customers → sales {expected}"]
    assert told(parent, child) == [f"spec.fields.favourite.references: customers → sales → customers {expected}"]
    assert told(child, customers(target="sales")) == []


def test_a_record_that_needs_another_of_its_kind_is_refused() -> None:
    (message,) = told(customers(target="customers", schema__required=["favourite"]))
    assert message.startswith("spec.fields.favourite.references: customers → customers need each other")
    (message,) = told(customers(target="customers", match=[{"fields": ["number", "favourite"]}]))
    assert message.startswith("spec.fields.favourite.references: customers → customers need each other")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"schema__properties__customer": {"type": "integer"}},
            (
                "spec.schema.properties.customer: a reference is an id, whatever it looks like: write "
                "{type: string} and no more"
            ),
        ),
        (
            {"schema__properties__customer": {"type": "string", "maxLength": 5}},
            (
                "spec.schema.properties.customer: a reference is an id, whatever it looks like: write "
                "{type: string} and no more"
            ),
        ),
        (
            {"systems__0__fields__customer": {"path": "c", "values": {"1": "one"}}},
            (
                "spec.systems[0].fields.customer: a reference is translated by the other policy: write "
                "its path alone, or {read, write}"
            ),
        ),
        (
            {"onConflict": "Merge"},
            (
                "spec.fields.customer.onConflict: onConflict Merge makes a new value, and a reference "
                "cannot be made: name another rule here"
            ),
        ),
        (
            {"fields__customer__onConflict": "Expression", "fields__customer__onConflictExpression": "base"},
            (
                "spec.fields.customer.onConflict: onConflict Expression makes a new value, and a "
                "reference cannot be made: name another rule here"
            ),
        ),
    ],
)
def test_a_reference_that_is_declared_wrongly_is_told(changes: dict[str, Any], expected: str) -> None:
    assert expected in told(sales(**changes), customers())


def test_a_reference_may_be_null_and_may_be_computed() -> None:
    computed = {"read": "string(customer)", "write": {"customer": "int(customer)"}}
    child = sales(schema__properties__customer={"type": ["string", "null"]}, systems__0__fields__customer=computed)
    assert told(child, customers()) == []


# --- in files, and in a cluster ---


def text_of(*policies: Manifest) -> str:
    return yaml.safe_dump_all([*map(connection, ("crm", "erp", "state")), *policies])


def bundled(*policies: Manifest) -> Bundle:
    return collect(parse(text_of(*policies), "f.yaml"), {})


def test_problems_have_their_file_and_line() -> None:
    (problem,) = check(bundled(sales(target="nobody")))
    assert (problem.file, problem.where) == ("f.yaml", FIELD)
    assert text_of(sales(target="nobody")).splitlines()[problem.line - 1].strip() == "references: nobody"


def test_a_policy_that_is_there_but_broken_is_not_also_missing() -> None:
    bundle = bundled(sales(), customers(interval=1))
    assert [problem.where for problem in bundle.problems] == ["spec.interval"]
    assert check(bundle) == []


def test_states_on_volumes_are_noted_because_workers_of_a_cluster_cannot_read_them() -> None:
    expected = (
        "in a cluster the workers of sales and customers cannot read each other's volumes: "
        "references need state.store: Postgres, with the same connection in both policies"
    )
    assert [(note.where, note.message) for note in notes(bundled(sales(), customers()))] == [(FIELD, expected)]
    assert notes(bundled(sales(state=POSTGRES), customers(state=POSTGRES))) == []


def test_a_policy_that_refers_to_itself_may_be_on_a_volume() -> None:
    assert list(apart(decode("SyncPolicy", customers(target="customers")))) == []
