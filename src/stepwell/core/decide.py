"""What a run does next: the one function that the engine asks; it depends on the state and the instant alone.

Rule 1: a run that is compensating only undoes. Rule 2: after a failure for good, or the request to cancel, nothing new
begins; when the calls in flight have ended, and the child of a run to be canceled, what may have happened gets an
outcome, and the run compensates, or ends if there is nothing to undo. Rule 3: a run with an outcome for every node is
complete. Rule 4: otherwise its current node says what to do, after its condition was asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.core import compensate
from stepwell.core.attempts import ask
from stepwell.core.decisions import Compensate, Complete, Decision, Wait

if TYPE_CHECKING:
    from stepwell.core.state import RunState


def decide(state: RunState, now: int) -> tuple[Decision, ...]:
    """The decisions to carry out now, in order; several only when several calls may begin."""
    if state.status == "compensating":
        return compensate.moves(state, now)
    if state.failed is not None or state.is_canceling:
        return _goes_no_further(state, now)
    plan, position = state.plan, state.position
    if position == len(plan.nodes):
        return (Complete(state.values.join(state.results)),)
    node, kind = plan.nodes[position], plan.kinds[position]
    if state.crashes >= state.max_crashes and not state.in_flight:
        return (compensate.crashed(state, kind.next_work(node, state), now),)
    if node.when is not None and not state.admitted:
        return (ask(state, kind.condition(node, state), node.when, node.policy, now),)
    return kind.decide(node, state, now)


def _goes_no_further(state: RunState, now: int) -> tuple[Decision, ...]:
    if state.in_flight:
        return (Wait(None),)
    if state.failed is None and not state.at_end:
        first: tuple[Decision, ...] = state.kind.before_cancel(state.node, state, now)
        if first:
            return first
    unfinished = compensate.unfinished(state, now)
    if unfinished is not None:
        return (unfinished,)
    return (Compensate(),) if state.undoable or state.is_partial else compensate.moves(state, now)
