"""Sealed values: what a key may be, and what cannot be read without it."""

import base64

import pytest

from fairlead.state.base import StateCorrupted, StateKeyWrong
from fairlead.state.seal import MARK, OPEN, Seal, keys_of

OLD, NEW, STORE = b"o" * 32, b"n" * 32, b"s" * 32
TEXT, PLACE = b'{"email":"ada@example.com"}', b"conflict\x001\x00email"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (base64.b64encode(NEW).decode(), (NEW,)),
        (base64.urlsafe_b64encode(b"\xff\xfb" * 16).decode(), (b"\xff\xfb" * 16,)),
        ("a passphrase of 32 characters !!", (b"a passphrase of 32 characters !!",)),
        (f"\n{base64.b64encode(NEW).decode()}\n\n {base64.b64encode(OLD).decode()}\n", (NEW, OLD)),
    ],
    ids=["base64", "base64 for URLs", "text", "two"],
)
def test_a_secret_holds_one_key_a_line_newest_first(text: str, expected: tuple[bytes, ...]) -> None:
    assert keys_of(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no key: write at least 32 random bytes"),
        ("too short", r"line 1 .* is a key of 9 bytes: write at least 32 random bytes"),
        (f"{'k' * 32}\n{base64.b64encode(b'x' * 20).decode()}", "line 2 .* is a key of 28 bytes"),
        ("\n".join(["k" * 32] * 17), "holds 17 keys, at most 16"),
    ],
)
def test_what_is_no_key_is_told_and_not_repeated(text: str, message: str) -> None:
    with pytest.raises(StateKeyWrong, match=message) as told:
        keys_of(text)
    assert "too short" not in str(told.value)


def test_what_is_sealed_is_read_with_its_key_alone() -> None:
    body = Seal([NEW], STORE).close(TEXT, PLACE)
    assert b"ada" not in body
    assert Seal([NEW], STORE).open(body, PLACE) == TEXT
    assert Seal([OLD, NEW], STORE).open(body, PLACE) == TEXT
    with pytest.raises(StateKeyWrong, match="add that key as a further line of its Secret"):
        Seal([OLD], STORE).open(body, PLACE)
    with pytest.raises(StateKeyWrong):
        Seal([], STORE).open(body, PLACE)


def test_the_same_text_is_sealed_differently_each_time() -> None:
    seal = Seal([NEW], STORE)
    assert len({seal.close(TEXT, PLACE) for _ in range(100)}) == 100


def test_one_secret_is_another_key_in_each_store() -> None:
    with pytest.raises(StateKeyWrong):
        Seal([NEW], b"other").open(Seal([NEW], STORE).close(TEXT, PLACE), PLACE)


def test_a_body_that_was_moved_to_another_row_cannot_be_read() -> None:
    seal = Seal([NEW], STORE)
    with pytest.raises(StateCorrupted, match="not where it belongs"):
        seal.open(seal.close(TEXT, PLACE), b"conflict\x002\x00email")


@pytest.mark.parametrize("position", [9, 20, 30, -1])
def test_a_body_that_was_changed_cannot_be_read(position: int) -> None:
    seal = Seal([NEW], STORE)
    body = bytearray(seal.close(TEXT, PLACE))
    body[position] ^= 1
    with pytest.raises(StateCorrupted):
        seal.open(bytes(body), PLACE)


def test_without_a_key_a_body_stays_as_it_is() -> None:
    seal = Seal([], STORE)
    assert (seal.close(TEXT, PLACE), seal.open(TEXT, PLACE), seal.id) == (TEXT, TEXT, OPEN)
    assert not TEXT.startswith(MARK)
