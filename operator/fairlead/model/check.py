"""Check: the rules that need more than one resource, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from fairlead.model.bundle import Bundle
from fairlead.model.checks import (
    ability,
    archive,
    conflict,
    contract,
    mapping,
    overlap,
    ownership,
    reference,
    remembering,
    timing,
)
from fairlead.model.checks.context import Context
from fairlead.model.connection import Connection
from fairlead.model.connector import Connector
from fairlead.model.problem import Problem, Reason
from fairlead.model.syncpolicy import SyncPolicy

Rule = Callable[[Context], Iterator[Problem]]

_RULES: tuple[Rule, ...] = (
    contract.is_json_schema,
    contract.is_object,
    contract.fields_are_named,
    contract.precisions_are_known,
    contract.required_fields_exist,
    ownership.systems_are_known,
    ownership.rules_are_about_fields,
    mapping.fields_are_known,
    mapping.mappings_are_written_well,
    mapping.expressions_compile,
    mapping.lists_are_split,
    mapping.values_can_be_written,
    mapping.paths_are_written_once,
    mapping.written_only_can_be_written,
    ownership.owners_hold_their_fields,
    ownership.match_fields_are_mapped,
    ownership.latest_needs_times,
    reference.references_are_ids,
    reference.references_are_mapped_plainly,
    reference.parents_are_there,
    reference.parents_can_come_first,
    conflict.expressions_are_written_well,
    conflict.expressions_give_what_fits,
    conflict.merges_are_possible,
    conflict.conditions_are_written_well,
    archive.values_are_constants,
    timing.schedule_is_cron,
    timing.intervals_are_long_enough,
    ability.connections_exist,
    ability.connectors_exist,
    ability.objects_are_offered,
    ability.objects_can_be_written,
    ability.objects_can_be_deleted,
    remembering.connection_exists,
    remembering.connection_is_postgresql,
    remembering.workers_fit_limits,
    overlap.systems_are_different,
    overlap.policies_do_not_overlap,
)


def check(bundle: Bundle) -> list[Problem]:
    """What is wrong with the documents of a bundle taken together; `bundle.problems` is what each says alone.

    What is missing only because its own document is broken is not reported again.
    """
    return [*_connection_problems(bundle), *_policy_problems(bundle)]


def _connection_problems(bundle: Bundle) -> Iterator[Problem]:
    for key, connection in bundle.connections.items():
        broken = ("Connector", connection.spec.connector) in bundle.broken
        for problem in check_connection(connection, bundle.connectors):
            if not broken or problem.reason is not Reason.CONNECTOR_NOT_FOUND:
                yield bundle.documents["Connection", key].place(problem)


def _policy_problems(bundle: Bundle) -> Iterator[Problem]:
    policies = list(bundle.policies.values())
    for key, policy in bundle.policies.items():
        document = bundle.documents["SyncPolicy", key]
        for problem in check_policy(policy, bundle.connections, bundle.connectors, policies):
            if problem.reason is not Reason.CONNECTOR_NOT_FOUND and not _is_echo(bundle, policy, problem):
                yield document.place(problem)


def notes(bundle: Bundle) -> list[Problem]:
    """What is right where all policies run in one process, and is not in a cluster."""
    return [
        bundle.documents["SyncPolicy", key].place(problem)
        for key, policy in bundle.policies.items()
        for problem in reference.apart(policy)
    ]


def _is_echo(bundle: Bundle, policy: SyncPolicy, problem: Problem) -> bool:
    """Whether a Connection or policy is there but broken, which has its own problem."""
    if problem.path[-1:] == ("references",):
        parent = policy.references()[str(problem.path[2])]
        return ("SyncPolicy", f"{policy.metadata.namespace}/{parent}") in bundle.broken
    if problem.reason is not Reason.CONNECTION_NOT_FOUND:
        return False
    number = problem.path[2]
    name = policy.spec.systems[number].connection if isinstance(number, int) else policy.spec.state.connection
    return ("Connection", f"{policy.metadata.namespace}/{name}") in bundle.broken


def check_connection(connection: Connection, connectors: Mapping[str, Connector]) -> list[Problem]:
    """What is wrong with one Connection beside others.

    Args:
        connection: validated against its schema.
        connectors: name → Connector, packaged ones included.
    """
    return [*ability.connector_exists(connection, connectors), *ability.url_can_be_read(connection)]


def check_policy(
    policy: SyncPolicy,
    connections: Mapping[str, Connection],
    connectors: Mapping[str, Connector],
    other_policies: Sequence[SyncPolicy],
) -> list[Problem]:
    """What is wrong with one policy beside others, each with the reason that its condition gets.

    Args:
        policy: validated against its schema.
        connections: `namespace/name` → Connection, of every namespace that `other_policies` come from.
        connectors: name → Connector, packaged ones included.
        other_policies: those that could claim the same fields; the policy itself may be among them.
    """
    context = Context(policy, connections, connectors, other_policies)
    return _distinct(problem for rule in _RULES for problem in rule(context))


def _distinct(problems: Iterable[Problem]) -> list[Problem]:
    return list({msgspec.json.encode(problem): problem for problem in problems}.values())
