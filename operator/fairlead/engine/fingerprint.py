"""Keyed fingerprints: how state remembers values without holding them.

A field's fingerprint is `AES-128(key, xxh3_128(value, seed))`, cut to 8 bytes, with a secret seed for each field: a
fast hash, then a pseudo-random permutation over it. Without the key nobody can test a guess against it; a page of
thousands of values is one call to AES, which costs a third of one keyed BLAKE2b per value
(docs/design/002-fingerprints.md). A row's fingerprint (an xxh3_64 of all its bytes under a secret seed) answers only
"did anything change?".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import chain, repeat

import xxhash
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

WIDTH = 8
"""Bytes of one fingerprint."""

UNSEEN = bytes(WIDTH)
"""Stands where a field was never read from nor written to a system."""


class Fingerprints:
    """Computes the fingerprints of one policy.

    Args:
        key: secret, and at least 16 bytes.
        fields: the policy's, in the order of their slots. A field's fingerprints stay what they are when it gets
            another slot because others come or go. Where none are named, fields are told apart by their slots.
    """

    def __init__(self, key: bytes, fields: Sequence[str] = ()) -> None:
        cipher = Cipher(algorithms.AES(_derive(key, b"fields")), modes.ECB())  # noqa: S305 - one block a value
        self._encryptor = cipher.encryptor()  # blocks are apart, so one serves for all
        self._seed = int.from_bytes(_derive(key, b"rows")[:8], "big")
        self._salt = int.from_bytes(_derive(key, b"salt")[:8], "big")
        self._seeds = [self._salt ^ _number_of(name) for name in fields]

    def rows(self, raws: Iterable[bytes], shape: int) -> list[int]:
        """One signed 64-bit fingerprint per native row; `shape` changes when the mapping does."""
        digests = map(xxhash.xxh3_64_intdigest, raws, repeat(self._seed ^ shape))
        return [digest - 0x8000_0000_0000_0000 for digest in digests]

    def fields(self, columns: Sequence[Sequence[bytes]], slots: Sequence[int], width: int) -> list[bytes]:
        """One string of `width` fingerprints per record, from the encoded values of its fields.

        Args:
            columns: one column of encoded values per mapped field.
            slots: where each column's fingerprint stands; the others are UNSEEN.
            width: how many fields the policy has.
        """
        if not columns or not columns[0]:
            return []
        count = len(columns[0])
        sealed = memoryview(self._seal(columns, [self._seed_of(slot) for slot in slots])).cast("Q")
        whole = memoryview(bytearray(count * width * WIDTH)).cast("Q")
        for position, slot in enumerate(slots):
            whole[slot::width] = sealed[2 * position :: 2 * len(slots)]
        prints, size = whole.tobytes(), width * WIDTH
        return [prints[start : start + size] for start in range(0, count * size, size)]

    def _seed_of(self, slot: int) -> int:
        return self._seeds[slot] if self._seeds else self._salt ^ slot

    def _seal(self, columns: Sequence[Sequence[bytes]], seeds: Sequence[int]) -> bytes:
        digest = xxhash.xxh3_128_digest
        hashed = [map(digest, column, repeat(seed)) for column, seed in zip(columns, seeds, strict=True)]
        return self._encryptor.update(b"".join(chain.from_iterable(zip(*hashed, strict=True))))

    def one(self, value: bytes, slot: int) -> bytes:
        """The fingerprint of one field's encoded value."""
        return self._encryptor.update(xxhash.xxh3_128_digest(value, self._seed_of(slot)))[:WIDTH]

    def many(self, values: Sequence[bytes], seed: int) -> list[int]:
        """Signed 64-bit fingerprints of independent values, for match keys."""
        if not values:
            return []
        return memoryview(self._seal([values], [self._salt ^ seed])).cast("q")[::2].tolist()


def _number_of(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), person=b"field", digest_size=8).digest(), "big")


def _derive(key: bytes, purpose: bytes) -> bytes:
    return hashlib.blake2b(key=key[:64], person=purpose, digest_size=16).digest()


def field(prints: bytes, slot: int) -> bytes:
    """The fingerprint at `slot`; UNSEEN beyond the end (a field that was added later)."""
    return prints[slot * WIDTH : slot * WIDTH + WIDTH] or UNSEEN


def replaced(prints: bytes, changes: dict[int, bytes], width: int) -> bytes:
    """`prints` with other fingerprints at some slots, `width` fields wide."""
    whole = bytearray(prints.ljust(width * WIDTH, b"\0"))
    for slot, fingerprint in changes.items():
        whole[slot * WIDTH : slot * WIDTH + WIDTH] = fingerprint
    return bytes(whole)


def difference_of(one: bytes, other: bytes) -> int:
    """Where two strings of fingerprints differ, for `slots_of`; 0 if nowhere. What is beyond an end is UNSEEN."""
    return int.from_bytes(one, "little") ^ int.from_bytes(other, "little")


def slots_of(difference: int) -> list[int]:
    """The slots at which fingerprints differ, in order; differences joined by `|` give all of theirs."""
    slots = []
    while difference:
        slot = ((difference & -difference).bit_length() - 1) // (8 * WIDTH)
        slots.append(slot)
        past = 8 * WIDTH * (slot + 1)
        difference = difference >> past << past
    return slots
