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
    """Secrets mounted as `<directory>/<name>/<key>`, as in a worker's pod."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, ref: KeyRef) -> str:
        """See `Secrets.get`."""
        if any(part in ("", ".", "..") or "/" in part for part in (ref.name, ref.key)):
            raise missing(ref)
        try:
            return (self._directory / ref.name / ref.key).read_text("utf-8").rstrip("\n")
        except OSError:
            raise missing(ref) from None
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
        try:
            return self._values[ref.name][ref.key].rstrip("\n")
        except KeyError:
            raise missing(ref) from None


def missing(ref: KeyRef) -> AuthRejected:
    """The failure that every implementation raises for a Secret or key that is not there."""
    return AuthRejected(
        f"Secret {ref.name!r} has no key {ref.key!r}, or does not exist: create it in the Connection's namespace",
        reason="SecretNotFound",
    )
