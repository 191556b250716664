"""TLS: who a server must prove to be. Verification is never off."""

from __future__ import annotations

import ssl

from fairlead.model.connection import TLS
from fairlead.transport.failure import Misconfigured
from fairlead.transport.secrets import Secrets


def context_for(tls: TLS | None, secrets: Secrets) -> ssl.SSLContext:
    """A verifying context that trusts the CA bundle, else the system's roots.

    Raises:
        Misconfigured: the bundle is not PEM.
    """
    context = ssl.create_default_context()
    ref = tls.ca_bundle and (tls.ca_bundle.secret_key_ref or tls.ca_bundle.config_map_key_ref) if tls else None
    if not ref:
        return context
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=secrets.get(ref))
    except (ssl.SSLError, ValueError):
        raise Misconfigured(f"{ref.name}/{ref.key} holds no PEM certificates", reason="TLSFailed") from None
    return context
