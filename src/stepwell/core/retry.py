"""How an attempt ends: from what a script gave, or the handler raised, to the decision that records it."""

from __future__ import annotations

from stepwell.core.decisions import (
    Answer,
    Call,
    Decision,
    Done,
    Ending,
    Record,
    Refused,
    Snapshot,
    Spawn,
    SpawnWith,
    WaitUntil,
)
from stepwell.core.model import ASKED, JournalRow, RowStatus, RunState, Spawned
from stepwell.core.nodes.sleep import until
from stepwell.core.work import Work, asks, progress_of
from stepwell.errors import Failure, PayloadError
from stepwell.workflow.durations import latest
from stepwell.workflow.policy import Abort, Policy, Retry, types_of

_ATTEMPTS = frozenset({"retrying", "suspended"})


def settled(state: RunState, call: Call, ending: Ending, now: int) -> Decision | None:
    """What to do about an attempt that gave this ending; None when there is nothing to record."""
    consumed = () if call.resume is None else (call.resume[0],)
    started_at = call.started_at
    match ending:
        case Done():
            value, detail = ending
            return Record(_row(state, call, "completed", started_at, now, value=value, detail=detail), consumed)
        case Snapshot(value):
            return Record(_row(state, call, "suspended", started_at, now, value=value), consumed)
        case Refused(kind, message):
            failure = Failure(call.step, kind, message)
            return Record(_row(state, call, "failed", started_at, now, error=failure), consumed)
        case Answer(holds):
            return None if holds else Record(_row(state, call, "skipped", started_at, now))
        case WaitUntil(wake_at):
            return until(state, Work(call.node, kind="sleep"), started_at, wake_at, now)
        case SpawnWith(workflow, value):  # pragma: no branch  mypy proves that there is no other ending
            return Spawn(Spawned(workflow, value, call.node), started_at)


def failed(state: RunState, call: Call, error: BaseException, failure: Failure, *, now: int, draw: float) -> Record:
    """The record of an attempt that raised: another one follows, or the work has failed for good."""
    if gives_up(call.policy, error) or call.attempt > call.policy.max_retries:
        consumed = () if call.resume is None else (call.resume[0],)
        return Record(_row(state, call, "failed", call.started_at, now, error=failure), consumed)
    named = _named_delay(error)
    delay = call.policy.backoff.delay(call.attempt, draw) if named is None else named
    detail = ASKED if asks(call) else None
    at = now + state.lag if delay else now  # its end, too: what is between them is the delay
    row = _row(state, call, "retrying", call.started_at, at, error=failure, detail=detail, retry_at=latest(at + delay))
    return Record(row)


def gives_up(policy: Policy, error: BaseException) -> bool:
    """Whether the policy wants no further attempt after this exception.

    Of an exception group all leaves decide: one that gives up is enough, and each must be one to retry, unless
    `retry_on` takes the group itself.
    """
    final: tuple[type[BaseException], ...] = (Abort, PayloadError, *types_of(policy.give_up_on))
    if isinstance(error, final):
        return True
    again: tuple[type[BaseException], ...] = (Retry, *types_of(policy.retry_on))
    if not isinstance(error, BaseExceptionGroup):
        return not isinstance(error, again)
    members = _members(error)
    if any(isinstance(one, final) for one in members):
        return True
    leaves = (one for one in members if not isinstance(one, BaseExceptionGroup))
    return not isinstance(error, again) and not all(isinstance(one, again) for one in leaves)


def _named_delay(error: BaseException) -> int | None:
    """The delay that a Retry names; of several in a group, the longest."""
    if isinstance(error, Retry):
        return error.after_micros
    if not isinstance(error, BaseExceptionGroup):
        return None
    named = [one.after_micros for one in _members(error) if isinstance(one, Retry) and one.after_micros is not None]
    return max(named, default=None)


def _members(error: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """Every exception in the group, and in the groups within it."""
    found = list(error.exceptions)
    for one in found:
        if isinstance(one, BaseExceptionGroup):
            found += one.exceptions
    return found


def _row(
    state: RunState,
    call: Call,
    status: RowStatus,
    started_at: int,
    now: int,
    *,
    value: bytes | None = None,
    detail: bytes | None = None,
    error: Failure | None = None,
    retry_at: int | None = None,
) -> JournalRow:
    n = 0
    if status in _ATTEMPTS:
        n = progress_of(state, Work(call.node, call.item, call.phase, call.kind)).n + 1
    return JournalRow(
        state.ref,
        state.seq + 1,
        call.node,
        call.item,
        call.phase,
        n,
        call.kind,
        call.attempt,
        status,
        value,
        detail,
        error,
        retry_at,
        started_at,
        now,
        state.worker,
    )
