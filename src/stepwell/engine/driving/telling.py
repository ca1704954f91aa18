"""From rows that were committed to the events that observers hear: made only where an observer listens."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from stepwell.core.compensate import names_undone
from stepwell.core.journal import iteration_of, name_of
from stepwell.engine.observer import AttemptEnded, AttemptStarted, LeaseLost, RunEnded, RunParked, RunStarted
from stepwell.workflow.durations import moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stepwell.core.decisions import Call, Park
    from stepwell.core.flat import PlainCall
    from stepwell.core.journal import JournalRow
    from stepwell.core.state import RunState
    from stepwell.engine.observer import Observers


class Telling:
    """What one drive tells of its run."""

    __slots__ = ("_cause", "_observers", "_raised", "_run_id", "_worker", "_workflow")

    def __init__(self, observers: Observers, run_id: str, workflow: str, worker: str) -> None:
        self._observers = observers
        self._run_id = run_id
        self._workflow = workflow
        self._worker = worker
        self._raised: dict[int, BaseException] = {}
        self._cause: BaseException | None = None

    def keep_exception(self, row: JournalRow, error: BaseException) -> None:
        """A row that is to be committed came of this exception; of one that fails the run it is kept to the end."""
        self._raised[row.seq] = error
        if self._cause is None and row.status == "failed" and row.phase != "undo":
            self._cause = error

    def started(self, now: int) -> None:
        """The run begins."""
        observers = self._observers
        if observers.run_started:
            observers.tell(observers.run_started, RunStarted(self._run_id, self._workflow, self._worker, _moment(now)))

    def begins(self, calls: Sequence[Call | PlainCall], now: int) -> None:
        """Attempts begin."""
        observers = self._observers
        for call in calls if observers.attempt_started else ():
            event = AttemptStarted(
                self._run_id,
                self._workflow,
                call.step,
                call.kind,
                call.iteration,
                call.attempt,
                self._worker,
                _moment(now),
            )
            observers.tell(observers.attempt_started, event)

    def committed(self, rows: Sequence[JournalRow]) -> None:
        """Rows are durable; most listeners want to hear of failures alone."""
        observers = self._observers
        for row in rows:
            listeners = observers.attempt_ended if row.error is None else observers.attempt_failed
            if listeners:
                observers.tell(listeners, self._ended_attempt(row))
        self._raised.clear()

    def parked(self, state: RunState, park: Park) -> None:
        """The run waits."""
        observers = self._observers
        if observers.parked:
            wake_at = None if park.wake_at is None else _moment(park.wake_at)
            undoes = state.status == "compensating" and state.undoable
            node = state.undoable[-1].node if undoes else state.node.name
            awaiting = park.awaiting
            first = awaiting[0] if awaiting else None
            event = RunParked(self._run_id, self._workflow, node, wake_at, first, self._worker, awaiting)
            observers.tell(observers.parked, event)

    def ended(self, state: RunState, now: int) -> None:
        """The run has ended."""
        observers = self._observers
        if not (observers.are_heard(observers.run_ended) if state.status == "completed" else observers.run_ended):
            return
        failed = state.failed if state.status == "failed" else None
        event = RunEnded(
            self._run_id,
            self._workflow,
            state.status,
            None if failed is None else failed.error,
            None if failed is None else failed.attempt,
            names_undone(state, "completed"),
            names_undone(state, "failed"),
            self._worker,
            _moment(now),
            None if failed is None else self._cause,
        )
        observers.tell(observers.run_ended, event)

    def _ended_attempt(self, row: JournalRow) -> AttemptEnded:
        return AttemptEnded(
            self._run_id,
            self._workflow,
            name_of(row),
            row.kind,
            iteration_of(row.item),
            row.attempt,
            row.status,
            row.error,
            None if row.retry_at is None else _moment(row.retry_at),
            _moment(row.started_at),
            _moment(row.finished_at),
            self._worker,
            self._raised.get(row.seq),
            row.name or None,
        )


def tell_lost(observers: Observers, worker: str, run_ids: Iterable[str]) -> None:
    """A worker does not hold these runs any more."""
    gone = tuple(run_ids) if observers.lease_lost else ()
    if gone:
        observers.tell(observers.lease_lost, LeaseLost(worker, gone))


def tell_canceled(observers: Observers, run_ids: Sequence[str], now: int) -> None:
    """Runs were canceled by this process."""
    for run_id in run_ids if observers.run_ended else ():
        event = RunEnded(run_id, None, "canceled", None, None, (), (), None, _moment(now))
        observers.tell(observers.run_ended, event)


def _moment(at: int) -> datetime:
    """The instant; one that no datetime can hold is the last there is, since no run may feel what is told of it."""
    try:
        return moment(at)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
