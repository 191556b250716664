"""How records that meet for the first time are recognised as the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.engine.canonical import kind_of
from fairlead.engine.fingerprint import Fingerprints
from fairlead.engine.mapping import Field
from fairlead.engine.match import MatchRules, normalized
from fairlead.model.syncpolicy import Match, Normalize

PRINTS = Fingerprints(bytes(range(32)))
SCHEMAS: dict[str, dict[str, Any]] = {
    "email": {"type": "string"}, "phone": {"type": "string"}, "country": {"type": "string"}, "vat": {"type": "integer"}
}  # fmt: skip
FIELDS = {name: Field(name, slot, kind_of(schema)) for slot, (name, schema) in enumerate(SCHEMAS.items())}
BY_EMAIL = Match(fields=("email",), normalize=(Normalize.TRIM, Normalize.LOWERCASE))
BY_VAT = Match(fields=("country", "vat"))


def keys(rules: list[Match], **values: Any) -> list[int]:
    return MatchRules(rules, FIELDS).keys([values], PRINTS)[0]


@pytest.mark.parametrize(
    ("text", "steps", "expected"),
    [
        ("  Ada ", [Normalize.TRIM], "Ada"),
        ("ADA", [Normalize.LOWERCASE], "ada"),
        ("STRASSE ß", [Normalize.LOWERCASE], "strasse ss"),  # folded, as people mean it
        ("+44 (20) 12-3", [Normalize.DIGITS_ONLY], "4420123"),
        (" ADA ", [Normalize.TRIM, Normalize.LOWERCASE], "ada"),
        ("as is ", [], "as is "),
    ],
)
def test_text_is_normalized_step_by_step(text: str, steps: list[Normalize], expected: str) -> None:
    assert normalized(text, steps) == expected


@given(st.text(), st.lists(st.sampled_from(Normalize)))
def test_a_normalized_text_stays_as_it_is(text: str, steps: list[Normalize]) -> None:
    once = normalized(text, steps)
    assert normalized(normalized(once, steps), steps) == normalized(once, steps)


def test_records_with_equal_normalized_fields_have_one_key() -> None:
    assert keys([BY_EMAIL], email=" Ada@Example.com") == keys([BY_EMAIL], email="ada@example.COM ")


def test_records_with_different_fields_have_different_keys() -> None:
    assert keys([BY_EMAIL], email="ada@example.com") != keys([BY_EMAIL], email="ada@example.org")


def test_every_rule_gives_a_key_of_its_own_in_the_order_of_the_rules() -> None:
    both = keys([BY_EMAIL, BY_VAT], email="ada@x", country="GB", vat=7)
    assert both[:1] == keys([BY_EMAIL], email="ada@x")
    assert (len(both), both[0] != both[1]) == (2, True)


def test_the_same_value_in_two_rules_is_two_keys() -> None:
    first, second = keys([BY_EMAIL, BY_PHONE], email="7", phone="7")
    assert first != second


BY_PHONE = Match(fields=("phone",))


def test_a_key_depends_on_what_its_rule_says_and_not_on_its_place() -> None:
    values = {"email": "7", "phone": "7"}
    assert keys([BY_PHONE, BY_EMAIL], **values) == keys([BY_EMAIL, BY_PHONE], **values)[::-1]
    assert keys([BY_EMAIL], **values) != keys([BY_PHONE], **values)


@pytest.mark.parametrize(
    "other",
    [Match(fields=("email",)), Match(fields=("email",), normalize=(Normalize.TRIM,)), Match(fields=("email", "phone"))],
)
def test_a_key_of_one_rule_is_none_of_another_rule(other: Match) -> None:
    values = {"email": "ada", "phone": "7"}
    assert keys([BY_EMAIL], **values) != keys([other], **values)


def test_what_a_rule_says_names_its_fields_their_normalization_and_their_types() -> None:
    assert MatchRules([BY_EMAIL, BY_VAT], FIELDS).declared == {
        '[["email"],["Trim","Lowercase"],["string"]]': ("email",),
        '[["country","vat"],[],["string","integer"]]': ("country", "vat"),
    }


def test_a_rule_that_stands_there_twice_gives_one_key() -> None:
    assert keys([BY_EMAIL, BY_EMAIL], email="ada") == keys([BY_EMAIL], email="ada")


def test_match_keys_of_an_earlier_release_are_found_again() -> None:
    assert keys([BY_EMAIL, BY_VAT], email=" Ada@x", country="GB", vat=7) == [-7043930991413470661, -7861613107504049660]


@pytest.mark.parametrize("values", [{}, {"email": None}, {"email": ""}, {"email": "  "}])
def test_a_rule_without_a_value_gives_no_key(values: dict[str, Any]) -> None:
    assert keys([BY_EMAIL], **values) == []


def test_a_rule_needs_a_value_in_every_one_of_its_fields() -> None:
    assert keys([BY_VAT], country="GB", vat=None) == []


def test_fields_of_one_rule_do_not_run_into_each_other() -> None:
    rule = Match(fields=("email", "phone"))
    assert keys([rule], email="ab", phone="c") != keys([rule], email="a", phone="bc")


def test_keys_belong_to_their_records_when_some_have_none() -> None:
    found = MatchRules([BY_EMAIL], FIELDS).keys([{"email": "a"}, {"email": None}, {"email": "b"}], PRINTS)
    assert found == [keys([BY_EMAIL], email="a"), [], keys([BY_EMAIL], email="b")]


def test_a_policy_without_rules_matches_nothing() -> None:
    rules = MatchRules([], FIELDS)
    assert (bool(rules), rules.keys([{"email": "a"}], PRINTS)) == (False, [[]])


def test_a_policy_with_rules_matches() -> None:
    assert bool(MatchRules([BY_EMAIL], FIELDS)) is True
