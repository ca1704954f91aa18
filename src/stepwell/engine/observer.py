"""The one way in which others hear what the engine does: an event is a frozen value, told to each observer of it.

Rule 1: an observer hears of what is committed, and of nothing that a lost lease has made void. Rule 2: it is called on
the event loop, between two steps of the engine, and is to be quick. Rule 3: one that raises is logged, dropped for the
life of the app, and never felt by a run. Rule 4: an event without a listener is not made.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from stepwell.engine.driving.user_code import is_interrupt
from stepwell.errors import DefinitionError
from stepwell.store.logs import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime, timedelta

    from stepwell.errors import Failure

_log = logger("stepwell.worker")


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run was claimed for the first time. Fields: `run_id`, `workflow`, `worker`, and the time `at`."""

    run_id: str
    workflow: str
    worker: str
    at: datetime


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run has ended.

    - `run_id`, `status`, `at`: the run, its final status, and the time.
    - `workflow`, `worker`: None for a canceled run.
    - `error`, `attempt`: a `Failure` and the attempt that failed, or None.
    - `compensated`, `failed_compensations`: names.
    - `exception`: the exception that failed the run, if it was raised in this process since the claim; else None.
    """

    run_id: str
    workflow: str | None
    status: str
    error: Failure | None
    attempt: int | None
    compensated: tuple[str, ...]
    failed_compensations: tuple[str, ...]
    worker: str | None
    at: datetime
    exception: BaseException | None = None


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """An attempt starts; it may still wait for a thread, or for one of the worker's `concurrency` slots.

    Fields: `run_id`, `workflow`, `node`, `kind`, `iteration`, `attempt`, `worker`, and the time `at`.
    """

    run_id: str
    workflow: str
    node: str
    kind: str
    iteration: int | None
    attempt: int
    worker: str
    at: datetime


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """A journal entry was committed; failed attempts have entries, too.

    - `run_id`, `workflow`: the run.
    - `node`, `kind`, `iteration`, `attempt`, `status`, `error`, `started_at`, `finished_at`, `worker`: as in `Entry`.
    - `retry_at`: the time of the next attempt, or None.
    - `exception`: the exception that was raised, or None.
    - `name`: of a sub-step, as in `Entry`; else None.
    """

    run_id: str
    workflow: str
    node: str
    kind: str
    iteration: int | None
    attempt: int
    status: str
    error: Failure | None
    retry_at: datetime | None
    started_at: datetime
    finished_at: datetime
    worker: str
    exception: BaseException | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class RunParked:
    """A run waits at a node, and no worker holds it.

    Fields: `run_id`, `workflow`, `node`, `wake_at`, `awaiting_signal` (the first of them), `worker` and
    `awaiting_signals`. If `wake_at` and `awaiting_signal` are None, it waits for its child.
    """

    run_id: str
    workflow: str
    node: str
    wake_at: datetime | None
    awaiting_signal: str | None
    worker: str
    awaiting_signals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunsClaimed:
    """A claim returned runs. Fields: `worker`, `run_ids`, and `took`, the duration of the claim."""

    worker: str
    run_ids: tuple[str, ...]
    took: timedelta


@dataclass(frozen=True, slots=True)
class BatchCommitted:
    """A batch of runs was committed. Fields: `worker`, the numbers of `runs` and `rows`, and `took`, its duration."""

    worker: str
    runs: int
    rows: int
    took: timedelta


@dataclass(frozen=True, slots=True)
class WorkerDead:
    """This process declared another worker dead.

    Fields: `worker`, `host`, `silent_for` (None if its death is certain), and `runs`, the number of runs released.
    """

    worker: str
    host: str
    silent_for: timedelta | None
    runs: int


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """Other workers hold runs that this worker held, or the runs were canceled; it stopped working on them.

    Fields: `worker` and `run_ids`.
    """

    worker: str
    run_ids: tuple[str, ...]


class Observer:
    """Receives events of an app's workers. Derive from it, override methods, and pass it to `Durable(observers=[…])`.

    Methods are plain functions, are called on the event loop with one frozen value, and must be fast. Only committed
    events of a run are reported. An observer that raises is logged and not called again; it never affects a run.
    """

    def run_started(self, event: RunStarted) -> None:
        """A run was claimed for the first time."""

    def run_ended(self, event: RunEnded) -> None:
        """A run has ended."""

    def attempt_started(self, event: AttemptStarted) -> None:
        """An attempt starts."""

    def attempt_ended(self, event: AttemptEnded) -> None:
        """A journal entry was committed: the end of an attempt, a wait, a route or a child."""

    def parked(self, event: RunParked) -> None:
        """A run waits, and no worker holds it."""

    def claimed(self, event: RunsClaimed) -> None:
        """Runs were claimed."""

    def committed(self, event: BatchCommitted) -> None:
        """A batch was committed."""

    def worker_dead(self, event: WorkerDead) -> None:
        """Another worker was declared dead, and its runs were released."""

    def lease_lost(self, event: LeaseLost) -> None:
        """Runs were lost to other workers, or canceled."""


EVENTS = (
    "run_started",
    "run_ended",
    "attempt_started",
    "attempt_ended",
    "parked",
    "claimed",
    "committed",
    "worker_dead",
    "lease_lost",
)
Listeners: TypeAlias = "tuple[tuple[Any, Callable[[Any], object]], ...]"
"""Observers, each with its method that hears an event."""
OF_FAILURES = "_attempt_failed"
"""A method of our own observers: as `attempt_ended`, but only of entries with an error."""
WOULD_TELL = "_would_tell"
"""A method of our own observers: whether they would do anything with an event of runs that go well."""


class Observers:
    """All observers of an app, and for each event the methods that hear it.

    An empty tuple of methods says that the event need not be made: without an observer an event costs one look.
    """

    def __init__(self, observers: Iterable[Any] = ()) -> None:
        self._all = [_checked(one) for one in observers]
        self._dropped: list[Any] = []
        self._find()

    def _find(self) -> None:
        """Finds out who hears of what; each list has those that override the method."""
        self.run_started: Listeners = self._heard_by("run_started")
        self.run_ended: Listeners = self._heard_by("run_ended")
        self.attempt_started: Listeners = self._heard_by("attempt_started")
        self.attempt_ended: Listeners = self._heard_by("attempt_ended")
        self.attempt_failed: Listeners = self._heard_by("attempt_ended", OF_FAILURES)
        """Of entries with an error: the log hears only of these, so that it costs nothing for what succeeds."""
        self.parked: Listeners = self._heard_by("parked")
        self.claimed: Listeners = self._heard_by("claimed")
        self.committed: Listeners = self._heard_by("committed")
        self.worker_dead: Listeners = self._heard_by("worker_dead")
        self.lease_lost: Listeners = self._heard_by("lease_lost")

    def _heard_by(self, *names: str) -> Listeners:
        return tuple((one, getattr(one, name)) for one in self._all for name in names if _overrides(one, name))

    def are_heard(self, listeners: Listeners) -> bool:
        """Whether one of these would do anything with a run's beginning or its completion.

        The log does nothing unless its level is INFO. To make the two events takes 7 of the 23 microseconds that a run
        of one step costs the engine.
        """
        for observer, _ in listeners:
            would_tell = getattr(type(observer), WOULD_TELL, None)
            if would_tell is None or would_tell(observer):
                return True
        return False

    def tell(self, listeners: Listeners, event: object) -> None:
        """Tells the event to these; whatever one of them raises ends its hearing, and nothing else."""
        for observer, method in listeners:
            if any(observer is one for one in self._dropped):
                continue
            try:
                method(event)
            except BaseException as error:
                if is_interrupt(error):
                    raise  # of the interpreter; all else is the observer's own, and no run may feel it
                self._dropped.append(observer)
                self._all = [one for one in self._all if one is not observer]
                self._find()
                _log.exception("Observer %.200r raised; it hears nothing more of this app.", type(observer).__name__)


def _overrides(observer: Any, name: str) -> bool:
    own = getattr(type(observer), name, None)
    if own is None:
        return callable(getattr(observer, name, None))
    return own is not getattr(Observer, name, None)


def _checked(observer: Any) -> Any:
    named = type(observer).__name__
    if isinstance(observer, type):
        raise DefinitionError(f"observers: {observer.__name__} is a class; give an object of it.")
    heard = [name for name in (*EVENTS, OF_FAILURES) if _overrides(observer, name)]
    if not heard:
        raise DefinitionError(f"observers: {named} has none of the methods {', '.join(EVENTS)}.")
    for name in heard:
        if inspect.iscoroutinefunction(getattr(observer, name)):
            raise DefinitionError(f"observers: {named}.{name} is async; an observer's methods are plain functions.")
    return observer
