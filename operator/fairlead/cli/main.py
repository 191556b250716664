"""Fairlead keeps business systems (CRM, ERP, billing, databases) in agreement, as Connections and SyncPolicies declare.

Exit codes: 0 all is well; 1 it ran, but not all is well (a policy is not ready, a manifest is invalid, the
cluster cannot be used) or the operator lost its Lease; 2 the command was called wrongly; 3 the state cannot be used;
4 no worker took up in time what was asked of it: it is kept.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

import fairlead
from fairlead.cli import desk, review
from fairlead.cli.choices import Log, Output
from fairlead.cli.options import (
    ByOption,
    LogOption,
    OutputOption,
    OwnPaths,
    Paths,
    PolicyOption,
    StateOption,
    TimeoutOption,
    group,
)

app = group(__doc__ or "")
state_app = group("Move what a policy remembers to another store.")
app.add_typer(state_app, name="state")
app.add_typer(desk.conflicts, name="conflicts")
app.add_typer(desk.letters, name="dead-letters")
app.add_typer(desk.held, name="held")
app.add_typer(review.matches, name="matches")
audit_app = group("What happened to records, and why.")
app.add_typer(audit_app, name="audit")


@app.command()
def run(
    paths: Paths,
    *,
    once: Annotated[bool, typer.Option("--once", help="One run of every policy, then stop.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be written, write nothing, stop.")] = False,
    resync: Annotated[bool, typer.Option("--resync", help="With --once or --plan: compare every record.")] = False,
    enforce: Annotated[
        bool, typer.Option("--enforce", help="With --resync: the system of record's values replace what differs.")
    ] = False,
    state: StateOption = Path(".fairlead"),
    port: Annotated[int, typer.Option(help="Serve /healthz, /readyz and /metrics here; 0 serves nothing.")] = 0,
    output: OutputOption = Output.TABLE,
    log: LogOption = Log.TEXT,
) -> None:
    """Run every SyncPolicy found in PATHS, in this process, without a cluster.

    SIGINT or SIGTERM ends it after the current batch, a second one at once; neither loses anything.

    Exit codes: 0 every policy delivers, also where records wait for a person; 1 a policy is not ready, or a manifest is
    invalid; 2 called wrongly; 3 a state cannot be used; 130 or 143 a signal ended it before it was done.
    """
    from fairlead.cli.run import RunOptions, run_policies  # noqa: PLC0415 - `fairlead --help` stays quick

    if (resync and not (once or plan)) or (enforce and not resync):
        raise typer.BadParameter("--enforce needs --resync, and --resync needs --once or --plan")
    raise typer.Exit(run_policies(RunOptions(paths, once or plan, plan, resync, enforce, state, port, output, log)))


@app.command()
def validate(paths: Paths, output: OutputOption = Output.TABLE) -> None:
    """Check manifests as the API server and the operator would, without either.

    Exit codes: 0 all are valid; 1 one is not; 2 called wrongly.
    """
    from fairlead.cli.validate import validate_paths  # noqa: PLC0415

    raise typer.Exit(validate_paths(paths, output))


@state_app.command("export")
def export_state(paths: OwnPaths = None, *, policy: PolicyOption = "", state: StateOption = Path(".fairlead")) -> None:
    """Write a policy's state to standard output, as JSON Lines. It is as secret as the state itself."""
    from fairlead.cli import state as commands  # noqa: PLC0415
    from fairlead.cli.place import Target  # noqa: PLC0415

    raise typer.Exit(commands.export_state(Target(paths or [], policy, state), sys.stdout.buffer))


@state_app.command("import")
def import_state(paths: OwnPaths = None, *, policy: PolicyOption = "", state: StateOption = Path(".fairlead")) -> None:
    """Read a policy's state from standard input into the store that it declares, which must be empty."""
    from fairlead.cli import state as commands  # noqa: PLC0415
    from fairlead.cli.place import Target  # noqa: PLC0415

    raise typer.Exit(commands.import_state(Target(paths or [], policy, state), sys.stdin.buffer))


@app.command()
def forget(
    paths: OwnPaths = None,
    *,
    policy: PolicyOption = "",
    record: Annotated[
        list[str] | None,
        typer.Option("--record", help="SYSTEM/KEY: a native key of the person in one system. Repeatable."),
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="SYSTEM/KEY: a dead letter that is somebody else. Repeatable.")
    ] = None,
    unseen: Annotated[bool, typer.Option("--unseen", help="Also keys of which nothing is known yet.")] = False,
    take_in: Annotated[
        list[str] | None,
        typer.Option("--take-in", help="SYSTEM/KEY: what was forgotten, and is somebody else by now. Repeatable."),
    ] = None,
    state: StateOption = Path(".fairlead"),
) -> None:
    """Erase a person from a policy's state, in every system; stop its worker first."""
    from fairlead.cli import state as commands  # noqa: PLC0415
    from fairlead.cli.place import Target  # noqa: PLC0415

    if bool(record) == bool(take_in):
        raise typer.BadParameter("give --record (whom to forget) or --take-in (who is not forgotten any more)")
    target = Target(paths or [], policy, state)
    if take_in:
        raise typer.Exit(commands.take_in(target, take_in))
    raise typer.Exit(commands.forget(target, record or [], keep or [], unseen=unseen))


@audit_app.command("list")
def list_audit(
    paths: OwnPaths = None,
    *,
    run: Annotated[str, typer.Option("--run", help="Only what this run did.")] = "",
    record: Annotated[str, typer.Option("--record", help="SYSTEM/KEY: only this record.")] = "",
    field: Annotated[str, typer.Option("--field", help="Only this field.")] = "",
    system: Annotated[str, typer.Option("--system", help="Only what was written there, or is its value.")] = "",
    kind: Annotated[str, typer.Option("--kind", help="Only this kind: Updated, Created, Deleted, Conflict, …")] = "",
    since: Annotated[str, typer.Option("--since", help="Only what is later: a time, or for example 2h or 7d.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=0, help="Entries; 0: 50 in a table, all in JSON.")] = 0,
    before: Annotated[int | None, typer.Option("--before", help="Go on after the entry of this number.")] = None,
    policy: PolicyOption = "",
    state: StateOption = Path(".fairlead"),
    output: OutputOption = Output.TABLE,
) -> None:
    """List the audit, newest first: who changed what where, by which rule; json is one line an entry."""
    from fairlead.cli import audit as commands  # noqa: PLC0415
    from fairlead.cli.place import Target  # noqa: PLC0415

    wanted = commands.Wanted(run, record, field, system, kind, since, limit, before)
    raise typer.Exit(commands.list_audit(Target(paths or [], policy, state), wanted, output))


@app.command()
def explain(
    record: Annotated[str, typer.Argument(help="SYSTEM/KEY: a native key of the record in one system.")],
    paths: OwnPaths = None,
    *,
    policy: PolicyOption = "",
    state: StateOption = Path(".fairlead"),
    output: OutputOption = Output.TABLE,
) -> None:
    """Tell field by field why each system has of a record what it has."""
    from fairlead.cli import explain as commands  # noqa: PLC0415
    from fairlead.cli.place import Target  # noqa: PLC0415

    raise typer.Exit(commands.explain(Target(paths or [], policy, state), record, output))


@app.command()
def undo(
    run: Annotated[str, typer.Argument(help="The id of the run, as `fairlead audit list` names it.")],
    paths: OwnPaths = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be written, and stop.")] = False,
    approve: Annotated[
        str, typer.Option("--approve", help="The id of the plan, where it deletes more than the guard allows.")
    ] = "",
    by: ByOption = "",
    timeout: TimeoutOption = 60.0,
    policy: PolicyOption = "",
    state: StateOption = Path(".fairlead"),
    output: OutputOption = Output.TABLE,
) -> None:
    """Write back what a run changed: shows the reverse writes, asks, and has the policy's worker do them.

    Exit codes: 0 undone; 1 something of it is not, or nothing was confirmed; 2 called wrongly; 3 the state
    cannot be used; 4 no worker took it up in time: it is kept, and the next run does it.
    """
    from fairlead.cli import undo as commands  # noqa: PLC0415
    from fairlead.cli.asking import Asker, user  # noqa: PLC0415
    from fairlead.cli.place import Target  # noqa: PLC0415

    options = commands.Options(run, yes, plan, approve, output)
    raise typer.Exit(commands.undo(Target(paths or [], policy, state), options, Asker(by or user(), timeout)))


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True}, add_help_option=False)
def worker(context: typer.Context) -> None:
    """Run one policy in its pod, and report to the API server. The operator starts this."""
    from fairlead.cli.worker import main as run_worker  # noqa: PLC0415

    raise typer.Exit(run_worker(context.args))


@app.command()
def operator(
    *,
    image: Annotated[str, typer.Option(help="The image that the workers run; its entry point is `fairlead`.")],
    worker_settings: Annotated[
        str, typer.Option(help="JSON with pullPolicy, pullSecrets and resources of the workers; each may be left out.")
    ] = "{}",
    namespace: Annotated[list[str], typer.Option(help="Serve this namespace; repeat it, or serve all.")] = [],  # noqa: B006
    lease_namespace: Annotated[str, typer.Option(help="Where the Lease is that elects the leader.")] = "default",
    lease_name: Annotated[str, typer.Option(help="Replicas that share it take turns.")] = "fairlead-operator",
    lease_duration: Annotated[
        int, typer.Option(min=3, help="Seconds after which the others no longer wait for a leader that is silent.")
    ] = 15,
    elect: Annotated[
        bool, typer.Option("--elect/--no-elect", help="Without election there must be one operator only.")
    ] = True,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Serve /healthz, /readyz and /metrics here.")] = 8080,
    log: LogOption = Log.TEXT,
) -> None:
    """Run the control plane: watch Connections and SyncPolicies, run their workers, report how they are.

    The cluster is that of KUBECONFIG or ~/.kube/config, or the one around the pod.
    """
    from fairlead.cli.operator import Lease, run_operator  # noqa: PLC0415 - only this command needs the cluster's libraries

    lease = Lease(lease_namespace, lease_name, lease_duration, elect)
    raise typer.Exit(run_operator(image, worker_settings, namespace, lease, port, log))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(fairlead.__version__)


def main() -> None:
    """The console script."""
    if sys.argv[1:2] == ["worker"]:  # without what reads the other command lines: a worker is meant to be small at rest
        from fairlead.cli.worker import main as run_worker  # noqa: PLC0415

        sys.exit(run_worker(sys.argv[2:]))
    app()
