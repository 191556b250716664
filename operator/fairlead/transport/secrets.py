"""Where secret values come from. Values are read when they are used, so a rotation needs no restart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from fairlead.model.common import KeyRef
from fairlead.transport.failure import AuthRejected


class Secrets(Protocol):
    """Reads one key of a Secret (or ConfigMap, for CA bundles) of one namespace."""

    def get(self, ref: KeyRef) -> str:
        """The value, without trailing newline.

        Raises:
            AuthRejected: the Secret or the key is missing (reason `SecretNotFound`), or its value is no text; names
                both, never the value.
        """
        ...


class DirectorySecrets:
    """Secrets mounted as `<directory>/<name>/<key>`, as in a worker's pod.

    Only keys that are asked for are mounted: without a folder, the Secret may exist or not.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, ref: KeyRef) -> str:
        """See `Secrets.get`."""
        if any(part in ("", ".", "..") or "/" in part for part in (ref.name, ref.key)):
            raise missing(ref)
        folder = self._directory / ref.name
        try:
            return (folder / ref.key).read_text("utf-8").rstrip("\n")
        except OSError:
            raise (without_key(ref) if folder.is_dir() else missing(ref)) from None
        except UnicodeDecodeError:
            raise AuthRejected(
                f"key {ref.key!r} of Secret {ref.name!r} is no text in UTF-8: is it a binary file, or encoded twice?",
                reason="AuthFailed",
            ) from None


class MappingSecrets:
    """Secrets held in memory: name → key → value."""

    def __init__(self, values: Mapping[str, Mapping[str, str]]) -> None:
        self._values = values

    def get(self, ref: KeyRef) -> str:
        """See `Secrets.get`."""
        if ref.name not in self._values:
            raise absent(ref)
        try:
            return self._values[ref.name][ref.key].rstrip("\n")
        except KeyError:
            raise without_key(ref) from None


def absent(ref: KeyRef) -> AuthRejected:
    """The failure for a Secret that does not exist."""
    return _not_found(
        f"Secret {ref.name!r} does not exist: create it in the Connection's namespace, with the key {ref.key!r}"
    )


def without_key(ref: KeyRef) -> AuthRejected:
    """The failure for a Secret that exists without the key."""
    return _not_found(f"Secret {ref.name!r} has no key {ref.key!r}: add the key, or name one that the Secret has")


def missing(ref: KeyRef) -> AuthRejected:
    """The failure where nobody can tell which of both it is."""
    return _not_found(
        f"Secret {ref.name!r} has no key {ref.key!r}, or does not exist: create it in the Connection's namespace"
    )


def _not_found(message: str) -> AuthRejected:
    return AuthRejected(message, reason="SecretNotFound")
