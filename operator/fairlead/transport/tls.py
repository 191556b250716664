"""TLS: whom a Connection trusts. Verification is always on."""

from __future__ import annotations

import ssl
from pathlib import Path

from fairlead.model.connection import TLS
from fairlead.transport.failure import Misconfigured
from fairlead.transport.secrets import Secrets


def ssl_context(tls: TLS | None, secrets: Secrets) -> ssl.SSLContext:
    """A client's context: trusts the CA bundle where one is given, else the machine's authorities.

    Raises:
        AuthRejected: the Secret or ConfigMap of the bundle is missing.
        Misconfigured: the bundle holds no PEM certificates (reason `TLSFailed`).
    """
    if tls is None or tls.ca_bundle is None:
        return _machine()
    ref = tls.ca_bundle.secret_key_ref or tls.ca_bundle.config_map_key_ref
    if ref is None:
        raise Misconfigured("tls.caBundle names neither a Secret nor a ConfigMap", reason="TLSFailed")
    try:
        return ssl.create_default_context(cadata=secrets.get(ref))
    except (ssl.SSLError, ValueError):
        raise Misconfigured(
            f"key {ref.key!r} of {ref.name!r} (tls.caBundle) holds no PEM certificates: it must start with "
            "-----BEGIN CERTIFICATE-----",
            reason="TLSFailed",
        ) from None


def _machine() -> ssl.SSLContext:
    """The machine's own store; a minimal container without one gets Mozilla's, as certifi ships it."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile or (paths.capath and any(Path(paths.capath).iterdir())):
        return ssl.create_default_context()
    import certifi  # noqa: PLC0415 - seldom needed

    return ssl.create_default_context(cafile=certifi.where())


def trusts_nobody() -> ssl.SSLContext:
    """For plain HTTP: loads no certificates, which costs time and memory, and verifies nothing as good."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
