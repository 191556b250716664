"""The commands for what waits for a person: `fairlead conflicts`, `fairlead dead-letters`, `fairlead held`.

Exit codes: 0 done; 1 something was refused, or is not there (it is told what, and why); 2 called wrongly; 3 the state
cannot be used; 4 no worker took the request up in time: it is kept, and the next run does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairlead.cli.choices import Output
from fairlead.cli.options import (
    AllOption,
    ByOption,
    FieldOption,
    LimitOption,
    OlderOption,
    OutputOption,
    OwnPaths,
    PolicyOption,
    ReasonOption,
    RecordOption,
    StateOption,
    SystemOption,
    TimeoutOption,
    YesOption,
    group,
)

if TYPE_CHECKING:
    from fairlead.cli.asking import Asker
    from fairlead.cli.place import Target

_CODES = (__doc__ or "").partition("\n\n")[2]

conflicts = group(f"Fields that wait for a person.\n\n{_CODES}")
letters = group(f"What could not be written, or taken in.\n\n{_CODES}")
held = group(f"What the guard holds back.\n\n{_CODES}")

_STATE = Path(".fairlead")
_WAIT = 60.0


@conflicts.command("list")
def list_conflicts(
    paths: OwnPaths = None,
    *,
    policy: PolicyOption = "",
    state: StateOption = _STATE,
    system: SystemOption = "",
    field: FieldOption = "",
    record: RecordOption = "",
    older_than: OlderOption = "",
    limit: LimitOption = 100,
    output: OutputOption = Output.TABLE,
) -> None:
    """List conflicts."""
    from fairlead.cli import conflicts as commands  # noqa: PLC0415 - `fairlead --help` stays quick
    from fairlead.cli.selection import Selection  # noqa: PLC0415

    chosen = Selection(record, system, field, "", older_than)
    raise typer.Exit(commands.show_list(_target(paths, policy, state), chosen, output, limit))


@conflicts.command("show")
def show_conflict(
    paths: OwnPaths = None,
    *,
    record: Annotated[str, typer.Option("--record", help="SYSTEM/KEY of the record.")],
    policy: PolicyOption = "",
    state: StateOption = _STATE,
    field: FieldOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what each system says of a record's fields that wait."""
    from fairlead.cli import conflicts as commands  # noqa: PLC0415
    from fairlead.cli.selection import Selection  # noqa: PLC0415

    raise typer.Exit(commands.show_one(_target(paths, policy, state), Selection(record, field=field), output))


@conflicts.command("resolve")
def resolve_conflicts(
    paths: OwnPaths = None,
    *,
    keep: Annotated[str, typer.Option("--keep", help="The system whose value stands.")] = "",
    value: Annotated[str | None, typer.Option("--value", help="The value that stands, as JSON.")] = None,
    by_policy: Annotated[
        bool, typer.Option("--by-policy", help="The value of the policy's system of record for the field stands.")
    ] = False,
    policy: PolicyOption = "",
    state: StateOption = _STATE,
    system: SystemOption = "",
    field: FieldOption = "",
    record: RecordOption = "",
    older_than: OlderOption = "",
    everything: AllOption = False,
    yes: YesOption = False,
    by: ByOption = "",
    timeout: TimeoutOption = _WAIT,
) -> None:
    """Decide conflicts: one, or all that fit the filters. The value that stands goes wherever it is not."""
    from fairlead.cli import conflicts as commands  # noqa: PLC0415
    from fairlead.cli.selection import Selection  # noqa: PLC0415

    chosen = Selection(record, system, field, "", older_than, everything)
    choice = commands.Choice(keep, value, by_policy)
    raise typer.Exit(commands.resolve(_target(paths, policy, state), chosen, choice, _asker(by, timeout), yes=yes))


@held.command("list")
def list_held(
    paths: OwnPaths = None,
    *,
    policy: PolicyOption = "",
    state: StateOption = _STATE,
    system: SystemOption = "",
    field: FieldOption = "",
    record: RecordOption = "",
    older_than: OlderOption = "",
    limit: LimitOption = 100,
    output: OutputOption = Output.TABLE,
) -> None:
    """List deletes, archivings and overwrites that wait until their plan is approved."""
    from fairlead.cli import held as commands  # noqa: PLC0415
    from fairlead.cli.selection import Selection  # noqa: PLC0415

    chosen = Selection(record, system, field, "", older_than)
    raise typer.Exit(commands.show_list(_target(paths, policy, state), chosen, output, limit))


@letters.command("list")
def list_letters(
    paths: OwnPaths = None,
    *,
    policy: PolicyOption = "",
    state: StateOption = _STATE,
    system: SystemOption = "",
    field: FieldOption = "",
    reason: ReasonOption = "",
    record: RecordOption = "",
    older_than: OlderOption = "",
    limit: LimitOption = 100,
    output: OutputOption = Output.TABLE,
) -> None:
    """List dead letters."""
    from fairlead.cli import letters as commands  # noqa: PLC0415
    from fairlead.cli.selection import Selection  # noqa: PLC0415

    chosen = Selection(record, system, field, reason, older_than)
    raise typer.Exit(commands.show_list(_target(paths, policy, state), chosen, output, limit))


@letters.command("show")
def show_letter(
    paths: OwnPaths = None,
    *,
    record: Annotated[str, typer.Option("--record", help="SYSTEM/KEY of the record.")],
    policy: PolicyOption = "",
    state: StateOption = _STATE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show a record's dead letters, with the values that could not be written."""
    from fairlead.cli import letters as commands  # noqa: PLC0415
    from fairlead.cli.selection import Selection  # noqa: PLC0415

    raise typer.Exit(commands.show_one(_target(paths, policy, state), Selection(record), output))


@letters.command("retry")
def retry_letters(
    paths: OwnPaths = None,
    *,
    policy: PolicyOption = "",
    state: StateOption = _STATE,
    system: SystemOption = "",
    field: FieldOption = "",
    reason: ReasonOption = "",
    record: RecordOption = "",
    older_than: OlderOption = "",
    everything: AllOption = False,
    yes: YesOption = False,
    by: ByOption = "",
    timeout: TimeoutOption = _WAIT,
) -> None:
    """Try dead letters again: one record's, or all that fit the filters."""
    from fairlead.cli import letters as commands  # noqa: PLC0415
    from fairlead.cli.selection import Selection  # noqa: PLC0415

    chosen = Selection(record, system, field, reason, older_than, everything)
    raise typer.Exit(commands.retry(_target(paths, policy, state), chosen, _asker(by, timeout), yes=yes))


@letters.command("discard")
def discard_letters(
    paths: OwnPaths = None,
    *,
    policy: PolicyOption = "",
    state: StateOption = _STATE,
    system: SystemOption = "",
    field: FieldOption = "",
    reason: ReasonOption = "",
    record: RecordOption = "",
    older_than: OlderOption = "",
    everything: AllOption = False,
    yes: YesOption = False,
    by: ByOption = "",
    timeout: TimeoutOption = _WAIT,
) -> None:
    """Give dead letters up: only a change of the record brings them back. The audit keeps what is lost."""
    from fairlead.cli import letters as commands  # noqa: PLC0415
    from fairlead.cli.selection import Selection  # noqa: PLC0415

    chosen = Selection(record, system, field, reason, older_than, everything)
    raise typer.Exit(commands.discard(_target(paths, policy, state), chosen, _asker(by, timeout), yes=yes))


@letters.command("export")
def export_letters(
    paths: OwnPaths = None,
    *,
    file: Annotated[Path | None, typer.Option("--file", help="Write here, else to standard output.")] = None,
    policy: PolicyOption = "",
    state: StateOption = _STATE,
    system: SystemOption = "",
    field: FieldOption = "",
    reason: ReasonOption = "",
    record: RecordOption = "",
    older_than: OlderOption = "",
) -> None:
    """Write dead letters with their values, one JSON object a line. The file is as secret as what is in it."""
    from fairlead.cli import letters as commands  # noqa: PLC0415
    from fairlead.cli.selection import Selection  # noqa: PLC0415

    chosen = Selection(record, system, field, reason, older_than)
    raise typer.Exit(commands.export(_target(paths, policy, state), chosen, file))


def _target(paths: list[Path] | None, policy: str, state: Path) -> Target:
    from fairlead.cli.place import Target  # noqa: PLC0415

    return Target(paths or [], policy, state)


def _asker(by: str, timeout: float) -> Asker:
    from fairlead.cli.asking import Asker, user  # noqa: PLC0415

    return Asker(by or user(), timeout)
