"""What several commands have in common: how their help looks, and what they take on their command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fairlead.cli.choices import Log, Output


def group(about: str) -> typer.Typer:
    """A group of commands. Markdown fills the lines of its help, which are those of the source without it."""
    return typer.Typer(
        rich_markup_mode="markdown",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help=about,
    )


def _there(context: typer.Context, paths: list[Path] | None) -> list[Path] | None:
    """Refuses what is not there; somebody may have named a record, which some commands take by an option."""
    for path in paths or []:
        if not path.exists():
            by_option = any(each.name == "record" and "--record" in each.opts for each in context.command.params)
            hint = f"; if it is a record, write --record {path}" if by_option and len(path.parts) == _RECORD else ""
            raise typer.BadParameter(f"{path} does not exist: name YAML files, or folders of them{hint}")
    return paths


_RECORD = 2
"""Parts of SYSTEM/KEY."""

Paths = Annotated[list[Path], typer.Argument(help="YAML files, or folders of them.", callback=_there)]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table for people, json for machines.")]
LogOption = Annotated[
    Log, typer.Option("--log", help="What is told while it runs: text for people, json for machines.")
]

# --- commands about one policy's state ---

OwnPaths = Annotated[
    list[Path] | None, typer.Argument(help="YAML files, or folders of them; in a worker's pod none.", callback=_there)
]
StateOption = Annotated[Path, typer.Option("--state", envvar="FAIRLEAD_STATE", help="The folder of the state files.")]
PolicyOption = Annotated[
    str, typer.Option("--policy", help="The policy's name, or namespace/name; not needed where there is only one.")
]

# --- commands that choose among many things, and ask the worker for something ---

SystemOption = Annotated[str, typer.Option("--system", help="Only those of this system.")]
FieldOption = Annotated[str, typer.Option("--field", help="Only those of this field.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Only those with this reason, for example Invalid.")]
RecordOption = Annotated[str, typer.Option("--record", help="SYSTEM/KEY: only those of this record.")]
OlderOption = Annotated[str, typer.Option("--older-than", help="Only what is that old, for example 12h or 7d.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, help="Rows of a table; json has all of them.")]
AllOption = Annotated[bool, typer.Option("--all", help="All of them, where no filter is given.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
ByOption = Annotated[str, typer.Option("--by", help="Who does it, for the audit; else the user of this command.")]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", min=0.0, help="Seconds to wait for the policy's worker; the request is kept.")
]
