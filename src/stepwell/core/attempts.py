"""How an attempt begins and how it ends: the call for a piece of work, and the decision that records its end.

An attempt that failed is followed by another one, unless the policy gives up or no attempt is left; then the work has
failed for good. What an attempt is retried for is decided once, here, when it ends: the row that records it holds the
instant of the next attempt, so a restart neither shortens nor repeats the wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.core.decisions import (
    Answer,
    Call,
    Decision,
    Done,
    Ending,
    Invoke,
    Park,
    Record,
    Refused,
    Script,
    Snapshot,
    Spawn,
    Spawned,
    SpawnWith,
    Tools,
    WaitUntil,
)
from stepwell.core.journal import ASKED, ASKED_AGAIN, JournalRow, RowStatus, Work, new_row
from stepwell.errors import Failure, PayloadError
from stepwell.workflow.durations import latest
from stepwell.workflow.policy import Abort, Policy, Retry, types_of

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from stepwell.core.state import RunState
    from stepwell.workflow.nodes import Function


def call_for(
    state: RunState,
    work: Work,
    script: Script,
    policy: Policy,
    *,
    subject: Any = None,
    results: Mapping[str, bytes] | None = None,
    resume: tuple[int, bytes] | None = None,
    undoes: tuple[str, ...] = (),
) -> Call:
    """The next attempt at the work."""
    progress = state.progress_of(work)
    if results is None:
        results = state.results
        if progress.snapshot is not None:
            results = {**results, work.name: progress.snapshot}
    return Call(
        state.run_id,
        work,
        progress.attempts + 1,
        progress.entries,
        work.name if work.item else work.node,
        policy,
        script,
        results,
        subject,
        resume,
        undoes,
    )


def unless_waiting(state: RunState, work: Work, now: int) -> Decision | None:
    """The wait for the next attempt's time, if it has not come; else None."""
    retry_at = state.progress_of(work).retry_at
    if retry_at is not None and retry_at > now:
        return Park(since=None, wake_at=retry_at)
    return None


def outcome(
    state: RunState,
    work: Work,
    *,
    started_at: int,
    now: int,
    value: bytes | None = None,
    failure: tuple[str, str] | None = None,
    skipped: bool = False,
    detail: bytes | None = None,
    attempt: int | None = None,
) -> JournalRow:
    """The row of an outcome that no handler gave: completed with the value, failed, or skipped."""
    error = None if failure is None else Failure(work.name, failure[0], failure[1])
    status: RowStatus = "failed" if failure else "skipped" if skipped else "completed"
    number = state.progress_of(work).attempts + 1 if attempt is None else attempt
    return new_row(state, work, status, number, started_at, now, value, detail, error)


def given_up(state: RunState, work: Work, now: int, kind: str, message: str) -> Record:
    """The work's failure for good for a reason that no attempt at it tells."""
    detail = state.kind.evidence(state.node, state, work) if work.phase == "do" else None
    return Record(outcome(state, work, started_at=now, now=now, failure=(kind, message), detail=detail))


def wait_until(state: RunState, work: Work, since: int, at: int, now: int) -> Park | Record:
    """The wait until the instant, or the outcome if it has come."""
    if at > now:
        return Park(since, at)
    return Record(outcome(state, work, started_at=since, now=now, value=state.values.null))


def ask(state: RunState, work: Work, when: Function, policy: Policy, now: int) -> Decision:
    """The call of the node's condition, or the wait for its next attempt."""
    return unless_waiting(state, work, now) or call_for(state, work, _ask, policy, subject=when)


def _ask(call: Call, tools: Tools) -> Generator[Invoke, Any, Answer]:
    holds = yield Invoke(call.subject, (tools.context(call),))
    return Answer(bool(holds))


def asks(call: Call) -> bool:
    """Whether the call asks a condition."""
    return call.script is _ask


def settled(state: RunState, call: Call, ending: Ending, now: int) -> Decision | None:
    """The decision for an attempt that ended so; None if there is nothing to record."""
    consumed = () if call.resume is None else (call.resume[0],)
    match ending:
        case Done():
            value, detail = ending
            return Record(_row(state, call, "completed", now, value=value, detail=detail), consumed)
        case Snapshot(value):
            return Record(_row(state, call, "suspended", now, value=value), consumed)
        case Refused(kind, message):
            failure = Failure(call.step, kind, message)
            return Record(_row(state, call, "failed", now, detail=_evidence(state, call), error=failure), consumed)
        case Answer(holds):
            return None if holds else Record(_row(state, call, "skipped", now))
        case WaitUntil(wake_at):
            return wait_until(state, call.work, call.started_at, wake_at, now)
        case SpawnWith(workflow, value):  # pragma: no branch  mypy proves that there is no other ending
            return Spawn(Spawned(workflow, value, call.node), call.started_at)


def failed(state: RunState, call: Call, error: BaseException, failure: Failure, *, now: int, draw: float) -> Record:
    """The record of an attempt that raised: another one follows, or the work has failed for good."""
    if gives_up(call.policy, error) or call.attempt > call.policy.max_retries:
        consumed = () if call.resume is None else (call.resume[0],)
        return Record(_row(state, call, "failed", now, detail=_evidence(state, call), error=failure), consumed)
    named = _named_delay(error)
    delay = call.policy.backoff.delay(call.attempt, draw) if named is None else named
    detail = _evidence(state, call)
    if asks(call):
        detail = ASKED_AGAIN if detail is None else ASKED
    # `now` may be behind the store's clock by the lag: a delay counted from it would end that much too early. The
    # attempt ends at the same instant, so that the delay is what lies between the two.
    at = now + state.lag if delay else now
    row = _row(state, call, "retrying", at, error=failure, detail=detail, retry_at=latest(at + delay))
    return Record(row)


def _evidence(state: RunState, call: Call) -> bytes | None:
    """The detail of a failed attempt: whether the work's handler was certainly never called, by it or before it."""
    if call.was_called or call.phase != "do":
        return None
    return state.kind.evidence(state.node, state, call.work)


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


def _row(  # noqa: PLR0917  the facts of every row of an attempt, on the hot path
    state: RunState,
    call: Call,
    status: RowStatus,
    now: int,
    value: bytes | None = None,
    detail: bytes | None = None,
    error: Failure | None = None,
    retry_at: int | None = None,
) -> JournalRow:
    return new_row(state, call.work, status, call.attempt, call.started_at, now, value, detail, error, retry_at)
