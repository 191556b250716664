"""TLS: whom a Connection trusts. Verification is always on."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

from fairlead.model.common import KeyRef
from fairlead.model.connection import TLS, CABundle
from fairlead.transport.failure import Misconfigured
from fairlead.transport.secrets import Secrets

_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\\s]*-----END CERTIFICATE-----")


def bundle(tls: TLS | None, secrets: Secrets) -> str | None:
    """The authorities to trust, as PEM text; None: those of the machine.

    Raises:
        AuthRejected: the Secret or ConfigMap of the bundle is missing.
        Misconfigured: the bundle names neither (reason `TLSFailed`).
    """
    if tls is None or tls.ca_bundle is None:
        return None
    return secrets.get(_ref(tls.ca_bundle))


def ssl_context(tls: TLS | None, trusted: str | None) -> ssl.SSLContext:
    """A client's context, which trusts these authorities (see `bundle`).

    Raises:
        Misconfigured: the bundle holds no PEM certificates (reason `TLSFailed`).
    """
    if tls is None or tls.ca_bundle is None or trusted is None:
        return _machine()
    try:
        # Only the certificates: bundles carry comments in any script, and without any the machine's would be trusted.
        return ssl.create_default_context(cadata="\n".join(_CERTIFICATE.findall(trusted)) or "none")
    except (ssl.SSLError, ValueError):
        ref = _ref(tls.ca_bundle)
        raise Misconfigured(
            f"key {ref.key!r} of {ref.name!r} (tls.caBundle) holds no PEM certificates: it must start with "
            "-----BEGIN CERTIFICATE-----",
            reason="TLSFailed",
        ) from None


def _ref(given: CABundle) -> KeyRef:
    ref = given.secret_key_ref or given.config_map_key_ref
    if ref is None:
        raise Misconfigured("tls.caBundle names neither a Secret nor a ConfigMap", reason="TLSFailed")
    return ref


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
