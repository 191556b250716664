"""`fairlead operator`: what the command line says, as the control plane's options."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
import typer

from fairlead.cli.choices import Log
from fairlead.cli.log import log_to_stderr
from fairlead.controller.election import Timing
from fairlead.controller.main import Options, run, worker_image

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""RFC 1123 label."""


class Lease(msgspec.Struct, frozen=True):
    """How the leader is elected; `duration` is in seconds."""

    namespace: str
    name: str
    duration: int
    elect: bool


def run_operator(image: str, settings: str, namespaces: Sequence[str], lease: Lease, port: int, log: Log) -> int:
    """Runs the operator until it is told to stop; the exit code of the command.

    Raises:
        typer.BadParameter: an option cannot be used; says which one and why.
    """
    for namespace in (*namespaces, lease.namespace):
        if not _NAMESPACE.fullmatch(namespace):
            raise typer.BadParameter(f"{namespace!r} cannot be the name of a namespace")
    if not image.strip():
        raise typer.BadParameter("name the image that the workers run", param_hint="--image")
    try:
        worker = worker_image(image, settings)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--worker-settings") from error
    log_to_stderr(log)
    return run(
        Options(
            worker=worker,
            namespaces=tuple(dict.fromkeys(namespaces)),
            lease_namespace=lease.namespace,
            lease_name=lease.name,
            elect=lease.elect,
            timing=Timing.of(lease.duration),
            port=port,
        )
    )
