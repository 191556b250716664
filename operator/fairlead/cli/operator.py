"""`fairlead operator`: what the command line says, as the control plane's options."""

from __future__ import annotations

import re
from collections.abc import Sequence

import typer

from fairlead.cli.output import Log, log_to_stderr
from fairlead.controller.main import Options, run, worker_image

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""RFC 1123 label."""


def run_operator(
    image: str, settings: str, namespaces: Sequence[str], lease: tuple[str, str], port: int, log: Log, *, elect: bool
) -> int:
    """Runs the operator until it is told to stop; the exit code of the command.

    Raises:
        typer.BadParameter: an option cannot be used; says which one and why.
    """
    for namespace in (*namespaces, lease[0]):
        if not _NAMESPACE.fullmatch(namespace):
            raise typer.BadParameter(f"{namespace!r} cannot be the name of a namespace")
    if not image.strip():
        raise typer.BadParameter("name the image that the workers run", param_hint="--image")
    try:
        worker = worker_image(image, settings)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--worker-settings") from error
    log_to_stderr(log)
    served = tuple(dict.fromkeys(namespaces))
    return run(
        Options(worker=worker, namespaces=served, lease_namespace=lease[0], lease_name=lease[1], elect=elect, port=port)
    )
