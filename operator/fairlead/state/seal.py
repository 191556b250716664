"""Sealing: values that a store must hold, as only the policy's key can read them.

A sealed body is `01 | key id (8) | nonce (12) | AES-256-GCM(text, place)` (NIST SP 800-38D). The key is derived (HKDF,
RFC 5869) from the declared one and the store's own fingerprint key, so that the same Secret makes another key for each
policy. `place` binds a body to its row: one that was moved to another cannot be read. A nonce is random, which is safe
for 2^32 bodies under one key; rotate before.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fairlead.state.base import StateCorrupted, StateKeyWrong

LEAST = 32
"""Bytes that a key must have."""

MOST = 16
"""Keys that one Secret may hold."""

MARK = b"\x01"
"""Begins a sealed body; one that is not begins with JSON."""

ID = 8
NONCE = 12
OPEN = "-"
"""The id that stands for no key: bodies are not sealed."""

_HOW = "write at least 32 random bytes, for example those of `openssl rand -base64 32`"


def keys_of(text: str) -> tuple[bytes, ...]:
    """The keys that a Secret holds: one a line, newest first; base64, else the text itself.

    Raises:
        StateKeyWrong: a key is too short, there is none, or there are too many.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise StateKeyWrong(f"the Secret of spec.state.encryptionKey holds no key: {_HOW}")
    if len(lines) > MOST:
        raise StateKeyWrong(f"the Secret of spec.state.encryptionKey holds {len(lines)} keys, at most {MOST} may be")
    return tuple(_key(line, number) for number, line in enumerate(lines, 1))


def _key(line: str, number: int) -> bytes:
    try:
        decoded = base64.b64decode(line.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    key = decoded if len(decoded) >= LEAST else line.encode()
    if len(key) < LEAST:
        raise StateKeyWrong(
            f"line {number} of the Secret of spec.state.encryptionKey is a key of {len(key)} bytes: {_HOW}"
        )
    return key


class Seal:
    """Seals and opens bodies of one store.

    Args:
        keys: newest first; without any, bodies are left as they are.
        store: the store's own key.
    """

    def __init__(self, keys: Sequence[bytes], store: bytes) -> None:
        derived = [(_derive(key, store, b"id", ID), _derive(key, store, b"body", LEAST)) for key in keys]
        self._ciphers = {name: AESGCM(key) for name, key in derived}
        self._newest = derived[0][0] if derived else None

    @property
    def id(self) -> str:
        """What new bodies are sealed with."""
        return self._newest.hex() if self._newest else OPEN

    @property
    def prefix(self) -> bytes:
        """How bodies begin that are sealed with the newest key."""
        return MARK + self._newest if self._newest else b""

    def knows(self, name: str) -> bool:
        """Whether bodies under this id can be read."""
        return name == OPEN or bytes.fromhex(name) in self._ciphers

    def close(self, text: bytes, place: bytes) -> bytes:
        """A text as it is stored."""
        if self._newest is None:
            return text
        nonce = os.urandom(NONCE)
        return MARK + self._newest + nonce + self._ciphers[self._newest].encrypt(nonce, text, place)

    def open(self, body: bytes, place: bytes) -> bytes:
        """The text of a stored body.

        Raises:
            StateKeyWrong: it is sealed with a key that is not among those given.
            StateCorrupted: it was changed, or is not where it belongs.
        """
        if not body.startswith(MARK):
            return body
        start = len(MARK) + ID
        cipher = self._ciphers.get(body[len(MARK) : start])
        if cipher is None:
            raise wrong_key(body[len(MARK) : start].hex())
        try:
            return cipher.decrypt(body[start : start + NONCE], body[start + NONCE :], place)
        except InvalidTag:
            raise StateCorrupted(
                "a sealed value of the state was changed, or is not where it belongs: restore a copy"
            ) from None


def seal_as_used(keys: Sequence[bytes], store: bytes, used: Sequence[str]) -> Seal:
    """The seal of a store beside its worker, which may know less keys by now: what it does not use seals nothing.

    Args:
        keys: as for `Seal`.
        store: the same.
        used: the ids of the keys that the worker uses.

    Raises:
        StateKeyWrong: one of them is not among `keys`.
    """
    known = [(key, Seal([key], store)) for key in keys]
    seal = Seal([key for key, its in known if its.id in used], store)
    if strange := [name for name in used if not seal.knows(name)]:
        raise wrong_key(strange[0])
    return seal


def wrong_key(name: str) -> StateKeyWrong:
    """Values are sealed with a key that was not given."""
    return StateKeyWrong(
        f"the state holds values sealed with a key (id {name[:8]}) that spec.state.encryptionKey does not give: add "
        "that key as a further line of its Secret; nothing was lost, and nothing is written until it is back. If it is "
        "lost for good, move the state away: every record is first met again, as spec.firstSync says"
    )


def _derive(key: bytes, store: bytes, purpose: bytes, length: int) -> bytes:
    info = b"fairlead/state/1/" + purpose
    return HKDF(algorithm=SHA256(), length=length, salt=store, info=info).derive(key)
