"""Mapping: one system's native attributes ↔ canonical fields."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.engine.canonical import ContractError, kind_of
from fairlead.engine.mapping import Field, Mapping
from fairlead.model.record import MISSING, Native, Value
from fairlead.model.syncpolicy import Archive, SystemSpec
from fairlead.worker.reading import attribute

SCHEMAS: dict[str, dict[str, Any]] = {
    "email": {"type": "string"},
    "name": {"type": "string"},
    "tags": {"type": "array", "items": {"type": "string"}},
    "active": {"type": "boolean"},
    "credit": {"type": "number"},
    "stage": {"type": "string"},
}
FIELDS = {name: Field(name, slot, kind_of(schema)) for slot, (name, schema) in enumerate(SCHEMAS.items())}


def mapping(filter: str | None = None, *, archive: dict[str, Any] | None = None, **fields: Any) -> Mapping:  # noqa: A002 - as the CRD calls it
    says = None if archive is None else Archive(set=archive)
    return Mapping(
        SystemSpec(name="crm", connection="crm", object="o", fields=fields, filter=filter, archive=says), FIELDS
    )


class Rows:
    """A page of records that are parsed already."""

    def __init__(self, *rows: Native) -> None:
        self._rows = rows

    def rows(self, indices):
        return [self._rows[i] for i in indices]

    def columns(self, indices, paths):
        return [[attribute(self._rows[i], path) for i in indices] for path in paths]


def read(made: Mapping, *rows: Native) -> list[dict[str, Value]]:
    columns = made.read(Rows(*rows), range(len(rows)))
    names = [field.name for field in made.fields]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


# --- a path ---


def test_a_path_reads_a_nested_attribute() -> None:
    made = mapping(email="properties.mail.work")
    assert read(made, {"properties": {"mail": {"work": "a@x"}}}) == [{"email": "a@x"}]


@pytest.mark.parametrize("row", [{}, {"properties": {}}, {"properties": None}, {"properties": {"mail": None}}])
def test_a_path_that_leads_nowhere_is_no_value(row: Native) -> None:
    assert read(mapping(email="properties.mail"), row) == [{"email": None}]


def test_an_attribute_whose_name_has_dots_is_found() -> None:
    assert read(mapping(email="mail.work"), {"mail.work": "a@x"}) == [{"email": "a@x"}]


def test_a_path_is_written_as_it_is_read() -> None:
    assert mapping(email="properties.mail", credit="limit").write({"email": "a@x", "credit": Decimal("1.5")}) == {
        "properties.mail": "a@x",
        "limit": Decimal("1.5"),
    }


def test_only_the_fields_that_are_given_are_written() -> None:
    assert mapping(email="mail", name="name").write({"name": "Ada"}) == {"name": "Ada"}


def test_a_field_that_the_system_does_not_map_is_not_written() -> None:
    assert mapping(email="mail").write({"email": "a@x", "name": "Ada"}) == {"mail": "a@x"}


def test_no_value_is_written_as_null() -> None:
    assert mapping(email="mail").write({"email": None}) == {"mail": None}


# --- split ---

SPLIT = {"path": "segments", "split": ";"}


@pytest.mark.parametrize(
    ("native", "tags"),
    [("a; b;c", ["a", "b", "c"]), ("", []), (";;", []), (None, None), (["a"], ["a"]), ("one", ["one"])],
)
def test_split_makes_a_list_of_text(native: object, tags: Value) -> None:
    assert read(mapping(tags=SPLIT), {"segments": native}) == [{"tags": tags}]


@pytest.mark.parametrize(("tags", "native"), [(["a", "b"], "a;b"), ([], ""), (None, None)])
def test_split_is_joined_when_it_is_written(tags: Value, native: object) -> None:
    assert mapping(tags=SPLIT).write({"tags": tags}) == {"segments": native}


# --- values ---

STAGES = {"path": "stage", "values": {"1": "Lead", "2": "Customer"}}


@pytest.mark.parametrize(
    ("native", "stage"),
    [("1", "Lead"), (2, "Customer"), ("3", "3"), (None, None)],
    ids=["text", "number", "other", "no"],
)
def test_declared_values_are_translated_and_others_kept(native: object, stage: Value) -> None:
    assert read(mapping(stage=STAGES), {"stage": native}) == [{"stage": stage}]


@pytest.mark.parametrize(("stage", "native"), [("Lead", "1"), ("Customer", "2"), ("Other", "Other"), (None, None)])
def test_values_are_translated_back_when_they_are_written(stage: Value, native: object) -> None:
    assert mapping(stage=STAGES).write({"stage": stage}) == {"stage": native}


def test_no_value_has_no_word_that_could_be_translated() -> None:
    made = mapping(stage={"path": "stage", "values": {"None": "Nobody", "MISSING": "Lost"}})
    assert read(made, {"stage": None}, {}) == [{"stage": None}, {"stage": None}]


def test_values_of_a_list_are_translated_one_by_one() -> None:
    made = mapping(tags={"path": "t", "split": ",", "values": {"v": "VIP", "n": "New"}})
    assert read(made, {"t": "v,x,n"}) == [{"tags": ["VIP", "x", "New"]}]
    assert made.write({"tags": ["VIP", "x", "New"]}) == {"t": "v,x,n"}


def test_a_boolean_is_translated_by_its_word() -> None:
    made = mapping(active={"path": "status", "values": {"ACTIVE": "true", "GONE": "false"}})
    assert read(made, {"status": "ACTIVE"}, {"status": "GONE"}) == [{"active": True}, {"active": False}]
    assert (made.write({"active": True}), made.write({"active": False})) == ({"status": "ACTIVE"}, {"status": "GONE"})


# --- CEL ---

NAME = {
    "read": "p.first + ' ' + p.last",
    "write": {"p.first": "name.split(' ')[0]", "p.last": "name.split(' ')[1]"},
}


def test_a_field_is_computed_from_several_attributes_and_written_to_them() -> None:
    made = mapping(name=NAME)
    assert read(made, {"p": {"first": "Ada", "last": "King"}}) == [{"name": "Ada King"}]
    assert made.write({"name": "Ada King"}) == {"p.first": "Ada", "p.last": "King"}


def test_a_computed_field_without_write_is_only_read() -> None:
    made = mapping(name={"read": "first"}, email="mail")
    assert (made.writable, made.write({"name": "Ada", "email": "a@x"})) == ({"email"}, {"mail": "a@x"})


def test_a_read_that_fails_names_the_field_and_no_value() -> None:
    with pytest.raises(ContractError) as failed:
        read(mapping(name=NAME), {"p": {"first": "hunter2"}})
    assert str(failed.value) == (
        "field name: \"p.first + ' ' + p.last\" failed: an attribute is not there; guard it with has(a.b)"
    )


def test_a_write_that_fails_names_the_field_and_no_value() -> None:
    with pytest.raises(ContractError) as failed:
        mapping(name=NAME).write({"name": "hunter2"})
    assert "field name:" in str(failed.value)
    assert "hunter2" not in str(failed.value)


def test_a_value_that_cannot_be_canonical_names_the_field() -> None:
    with pytest.raises(ContractError, match=r"^field credit must be a number$"):
        read(mapping(credit="limit"), {"limit": "much"})


def test_a_value_that_is_nested_too_deeply_is_refused() -> None:
    nested: Any = "x"
    for _ in range(100_000):
        nested = [nested]
    made = Mapping(
        SystemSpec(name="crm", connection="crm", object="o", fields={"any": "any"}),
        {"any": Field("any", 0, kind_of({}))},
    )
    with pytest.raises(ContractError, match="nested too deeply"):
        read(made, {"any": nested})


# --- filter ---


def test_a_filter_lets_pass_what_it_is_true_for() -> None:
    made = mapping("p.stage == 'customer'", email="mail")
    rows = Rows({"p": {"stage": "customer"}}, {"p": {"stage": "lead"}}, {"p": {}}, {"p": {"stage": None}})
    assert made.passing(rows, range(4)) == [0]


def test_a_filter_whose_result_is_no_boolean_lets_nothing_pass() -> None:
    assert mapping("stage", email="mail").passing(Rows({"stage": "x"}), [0]) == []


def test_without_a_filter_everything_passes() -> None:
    assert mapping(email="mail").passing(Rows({}, {}), [1, 0]) == [1, 0]


# --- archive ---


@pytest.mark.parametrize(
    ("declared", "native", "archived"),
    [
        ("Closed", "Closed", True),
        ("Closed", " CLOSED ", True),
        ("Closed", "Open", False),
        ("Closed", None, False),
        ("Closed", {"is": "Closed"}, False),
        ("7", 7, True),
        (True, True, True),
        (True, "yes", True),
        (True, 1, True),
        (True, False, False),
        (True, "perhaps", False),
        (True, None, False),
        (False, "f", True),
        (False, None, False),
        (3, 3, True),
        (3, "3.0", True),
        (3, 4, False),
        (3, "three", False),
    ],
)
def test_an_archived_record_is_known_in_whatever_spelling(declared: object, native: object, archived: bool) -> None:
    assert mapping(archive={"p.state": declared}, email="mail").is_archived({"p": {"state": native}}) is archived


@pytest.mark.parametrize(
    ("row", "archived"),
    [
        ({"closed": True, "why": "old"}, True),
        ({"closed": True, "why": "sold"}, False),
        ({"closed": True}, False),
        ({}, False),
    ],
)
def test_an_archived_record_says_all_that_is_declared(row: Native, archived: bool) -> None:
    assert mapping(archive={"closed": True, "why": "old"}, email="mail").is_archived(row) is archived


def test_where_nothing_is_archived_no_record_is() -> None:
    assert mapping(email="mail").is_archived({}) is False


def test_an_archived_record_takes_no_part_whatever_the_filter_says() -> None:
    made = mapping("stage == 'x'", archive={"closed": True}, email="mail")
    rows = Rows({"stage": "x"}, {"stage": "x", "closed": True}, {"stage": "y"}, {"stage": "x", "closed": False})
    assert made.passing(rows, range(4)) == [0, 3]


@pytest.mark.parametrize(
    ("declared", "selective"),
    [({}, False), ({"filter": "true"}, True), ({"archive": {"closed": True}}, True)],
    ids=["neither", "filter", "archive"],
)
def test_a_filter_or_an_archive_makes_it_selective(declared: dict[str, Any], selective: bool) -> None:
    assert mapping(email="mail", **declared).selective is selective


# --- whole records at once ---


@pytest.mark.parametrize(
    ("fields", "copies"),
    [
        ({"email": "mail", "name": "name"}, True),
        ({"email": "mail", "tags": SPLIT}, False),
        ({"email": "mail", "stage": STAGES}, False),
        ({"email": "mail", "name": NAME}, False),
    ],
    ids=["paths", "split", "values", "computed"],
)
def test_values_that_are_written_as_they_are_are_copied(fields: dict[str, Any], copies: bool) -> None:
    assert mapping(**fields).copies is copies


@pytest.mark.parametrize(
    ("fields", "records"),
    [
        ({"email": "p.mail", "name": "n"}, [{"name": "Ada", "email": "a@x"}, {"name": None, "email": "b@x"}]),
        ({"email": "p.mail", "name": "n"}, [{"name": "Ada", "email": "a@x"}, {"name": "Bob"}, {}]),
        ({"email": "p.mail"}, [{"name": "Ada", "email": "a@x"}, {}]),
        ({"email": "p.mail", "name": "n"}, []),
    ],
    ids=["whole", "partial", "one-field", "none"],
)
def test_records_are_copied_as_each_is_written(fields: dict[str, Any], records: list[dict[str, Value]]) -> None:
    made = mapping(**fields)
    assert made.copied(records) == [made.write(values) for values in records]


# --- what others ask of it ---


def test_the_path_of_a_field_is_that_of_its_one_attribute() -> None:
    made = mapping(email="p.mail", tags=SPLIT, name=NAME)
    paths = [made.path_of(field) for field in ("email", "tags", "name", "credit")]
    assert paths == ["p.mail", "segments", None, None]


def test_what_says_that_a_record_is_archived_is_read_too() -> None:
    assert mapping(archive={"closed": True}, email="mail").paths == ["closed", "mail"]


def test_times_of_single_fields_are_read_too() -> None:
    made = mapping(email={"path": "mail", "modified": "mail_at"}, name="name")
    assert (made.times, made.paths) == ({"email": "mail_at"}, ["mail", "mail_at", "name"])


def test_the_attributes_to_read_are_those_of_paths_expressions_and_the_filter() -> None:
    made = mapping("stage == 'x'", email="mail", name={"read": "p.first", "write": {"p.full": "name"}})
    assert (made.paths, made.written_paths) == (["mail", "p", "stage"], ["mail", "p.full"])


def test_the_declaration_of_a_field_changes_with_what_is_read_and_not_with_what_is_written() -> None:
    one, other = mapping(name=NAME), mapping(name={**NAME, "write": {}})
    assert one.field_declaration("name") == other.field_declaration("name")
    assert one.field_declaration("name") != mapping(name={"read": "p.first"}).field_declaration("name")
    assert mapping(tags=SPLIT).field_declaration("tags") != mapping(tags="segments").field_declaration("tags")


@pytest.mark.parametrize(
    "other",
    [
        {"filter": "b", "email": "m", "name": "n"},
        {"filter": "a", "email": "m", "name": "o"},
        {"filter": "a", "email": "m"},
        {"filter": "a", "email": "m", "name": "n", "archive": {"closed": True}},
    ],
    ids=["filter", "path", "fewer", "archive"],
)
def test_the_declaration_changes_with_what_is_declared(other: dict[str, Any]) -> None:
    assert mapping("a", email="m", name="n").declaration != mapping(**other).declaration


def test_the_declaration_says_nothing_of_the_order_of_the_fields() -> None:
    assert mapping(email="m", name="n").declaration == mapping(name="n", email="m").declaration


def test_fields_are_in_the_order_of_their_slots_whatever_the_order_of_the_mapping() -> None:
    assert [f.name for f in mapping(tags="t", email="m", name="n").fields] == ["email", "name", "tags"]


PATHS: dict[str, Any] = {
    "email": "mail", "name": "a.b", "tags": {"path": "t", "split": ";"}, "active": "on", "credit": "limit",
    "stage": {"path": "s", "values": {"1": "Lead"}},
}  # fmt: skip
WORD = st.text("abc Äé", max_size=5)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "email": WORD, "name": WORD, "tags": st.lists(st.text("abcÄ", min_size=1, max_size=4), max_size=3),
        "active": st.booleans(), "credit": st.integers(-99, 99) | st.decimals(-99, 99, places=2),
        "stage": st.sampled_from(["Lead", "Other"]),
    },
)  # fmt: skip


@given(VALUES)
def test_what_is_written_reads_as_what_was_meant(values: dict[str, Any]) -> None:
    made = mapping(**PATHS)
    canonical = {name: FIELDS[name].kind.canonical(value) for name, value in values.items()}
    native = made.write(canonical)
    assert read(made, native) == [dict.fromkeys(PATHS) | canonical]


def test_of_a_record_that_cannot_be_read_whole_is_told_what_can_be() -> None:
    made = mapping(email="mail", credit="credit", active={"read": "state == 'on'"}, stage={"read": "state.no"})
    rows = Rows({}, {"mail": "a@x", "credit": "much", "state": "on"})
    assert made.legible(rows, 1) == {"email": "a@x", "active": True}


def test_missing_is_not_null_where_it_is_read() -> None:
    assert attribute({"a": None}, "a") is None
    assert attribute({}, "a") is MISSING
