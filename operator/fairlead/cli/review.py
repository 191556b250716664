"""The commands by which a person says which records are the same: `fairlead matches`.

Exit codes: 0 done; 1 it was refused, or is not there (it is told why, and what to do); 2 called wrongly; 3 the state
cannot be used; 4 no worker took the request up in time: it is kept, and the next run does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fairlead.cli.choices import Output
from fairlead.cli.options import ByOption, OutputOption, OwnPaths, PolicyOption, StateOption, TimeoutOption, group

_CODES = (__doc__ or "").partition("\n\n")[2]

matches = group(f"Records of which it is not sure which they are.\n\n{_CODES}")

_STATE = Path(".fairlead")
_WAIT = 60.0

RecordArgument = Annotated[str, typer.Argument(metavar="SYSTEM/KEY", help="A record, by its native key in a system.")]


@matches.command("list")
def list_matches(
    paths: OwnPaths = None,
    *,
    reason: Annotated[
        list[str], typer.Option("--reason", help="Only what waits for this reason, such as Ambiguous; repeat it.")
    ] = [],  # noqa: B006
    system: Annotated[str, typer.Option(help="Only what is in this system, or is not created there.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Records of one page.")] = 50,
    after: Annotated[str, typer.Option(metavar="SYSTEM/KEY", help="Where the page before ended.")] = "",
    values: Annotated[
        bool, typer.Option("--values/--no-values", help="Read the match fields from the systems.")
    ] = True,
    policy: PolicyOption = "",
    state: StateOption = _STATE,
    output: OutputOption = Output.TABLE,
) -> None:
    """List records that wait because it is not sure which they are, and what they may be."""
    from fairlead.cli import matches as commands  # noqa: PLC0415
    from fairlead.cli.place import Target  # noqa: PLC0415

    choice = commands.Choice(tuple(reason), system, limit, after, values)
    raise typer.Exit(commands.list_matches(Target(paths or [], policy, state), choice, output))


@matches.command("show")
def show_match(
    record: RecordArgument,
    paths: OwnPaths = None,
    *,
    policy: PolicyOption = "",
    state: StateOption = _STATE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one of them, or those that it may be, with why and since when it waits."""
    from fairlead.cli import matches as commands  # noqa: PLC0415
    from fairlead.cli.place import Target  # noqa: PLC0415

    raise typer.Exit(commands.show_match(Target(paths or [], policy, state), record, output))


@matches.command("link")
def link_match(
    record: RecordArgument,
    other: RecordArgument,
    paths: OwnPaths = None,
    *,
    by: ByOption = "",
    timeout: TimeoutOption = _WAIT,
    policy: PolicyOption = "",
    state: StateOption = _STATE,
) -> None:
    """Say that two are the same record: what differs is decided as at a first meeting."""
    from fairlead.cli import matches as commands  # noqa: PLC0415
    from fairlead.cli.asking import Asker, user  # noqa: PLC0415
    from fairlead.cli.place import Target  # noqa: PLC0415

    asker = Asker(by or user(), timeout)
    raise typer.Exit(commands.link_match(Target(paths or [], policy, state), record, other, asker))


@matches.command("split")
def split_match(
    record: RecordArgument,
    paths: OwnPaths = None,
    *,
    create: Annotated[
        bool, typer.Option("--create", help="Create it, and what it leaves, where they are lacking.")
    ] = False,
    by: ByOption = "",
    timeout: TimeoutOption = _WAIT,
    policy: PolicyOption = "",
    state: StateOption = _STATE,
) -> None:
    """Say that a record is one of its own, and not what it was linked with, or matches."""
    from fairlead.cli import matches as commands  # noqa: PLC0415
    from fairlead.cli.asking import Asker, user  # noqa: PLC0415
    from fairlead.cli.place import Target  # noqa: PLC0415

    asker = Asker(by or user(), timeout)
    raise typer.Exit(commands.split_match(Target(paths or [], policy, state), record, asker, create=create))
