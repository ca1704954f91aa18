"""`Harness`: an app and its worker in virtual time, for tests of workflows."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar

from stepwell.core.statuses import ENDED
from stepwell.errors import DefinitionError, DurableError
from stepwell.runtime.system import SystemRuntime
from stepwell.testing.bench import MEMORY, Bench, StandstillError
from stepwell.testing.calls import Call, shown_name, watched
from stepwell.testing.checks import workflows_of
from stepwell.workflow.durations import Duration, instant, micros

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from stepwell.app import Durable
    from stepwell.reading.records import Entry, ResumeResult, RunSnapshot
    from stepwell.workflow.builder import Workflow

_SECOND = 1_000_000
T = TypeVar("T")


class Harness:
    """Runs workflows on its own store with one worker, in virtual time. Enter it with `async with`.

    - `workflows`: one workflow or several; they are copied.
    - `fakes`: replacements for handlers by name. A function is called instead, an exception or exception class is
      raised, any other value is the result.
    - `url`: the store; default: in memory.
    - `seed`: determines jitter and, in memory, ids.
    - `begins`: the first instant; default: the real time.
    - `patience`: how long a handler may take, a duration in real time.
    - `concurrency`: that of the worker.
    - other options: those of `Durable`.

    Raises DefinitionError for an invalid argument.
    """

    def __init__(
        self,
        workflows: Iterable[Workflow] | Workflow,
        *,
        fakes: Mapping[str, Any] | None = None,
        url: str = MEMORY,
        seed: int = 0,
        begins: datetime | None = None,
        patience: Duration = 10,
        concurrency: int = 100,
        **options: Any,
    ) -> None:
        self._originals = workflows_of(workflows)
        self._calls: list[Call] = []
        self._copies = watched(self._originals, fakes or {}, _Recorder(self._calls))
        self._url = url
        self._seed = seed
        self._begins = first_instant(begins)
        self._patience = micros(patience, "patience") / _SECOND
        self._concurrency = concurrency
        self._options = options
        self._app: Durable | None = None
        self._last: Bench | None = None
        self._entered: AsyncExitStack

    async def __aenter__(self) -> Self:
        if self._app is not None:
            raise DurableError("This Harness is entered already. Make another one.")
        self._last = bench = Bench(self._url, seed=self._seed, begins=self._begins, patience=self._patience)
        async with AsyncExitStack() as stack:
            stack.callback(self._is_left)
            await stack.enter_async_context(bench)
            self._app = await stack.enter_async_context(bench.app(self._copies, bench.call, **self._options))
            await stack.enter_async_context(self._app.worker(concurrency=self._concurrency, grace=0))
            await self.settle()
            self._entered = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        await self._entered.aclose()

    def _is_left(self) -> None:
        self._app = None

    @property
    def app(self) -> Durable:
        """The app, for calls that the harness does not have; call `settle()` after them."""
        return _entered(self._app)

    @property
    def _bench(self) -> Bench:
        return _entered(self._last)

    @property
    def now(self) -> datetime:
        """The current virtual time in UTC; only `advance` and `run_until_end` move it."""
        return self._bench.clock.instant

    def calls(self, name: str | None = None) -> list[Call]:
        """Returns the calls of handlers and compensators so far, in order; only those of `name` if given.

        `name` is a step, loop, entry or branch; put "undo " before it for its compensator. Raises DefinitionError for
        an unknown one.
        """
        if name is None:
            return list(self._calls)
        shown = shown_name(name, self._originals)
        if not shown:
            known = ", ".join(sorted({call.name for call in self._calls})) or "none"
            raise DefinitionError(f'calls: no handler "{name}". Called so far: {known}.')
        return [call for call in self._calls if call.name in shown]

    async def start(
        self, workflow: Workflow | str, input: Any = None, *, key: str | None = None, delay: Duration | None = None
    ) -> str:
        """Starts a run, settles, and returns the run's id."""
        name = workflow if isinstance(workflow, str) else workflow.name
        started = await self.app.start(name, input, key=key, delay=delay)
        await self.settle()
        return started.run_id

    async def signal(self, run_id: str, name: str, data: Any = None, *, key: str | None = None) -> ResumeResult:
        """Sends a signal, which is stored if the run does not wait for it yet, and settles."""
        delivered = await self.app.signal(run_id, name, data, key=key)
        await self.settle()
        return delivered

    async def resume(self, run_id: str, signal: str, data: Any = None, *, key: str | None = None) -> ResumeResult:
        """Sends a signal to a run that is suspended on it, and settles."""
        delivered = await self.app.resume(run_id, signal, data, key=key)
        await self.settle()
        return delivered

    async def cancel(self, run_id: str, *, compensate: bool = False) -> None:
        """Cancels a run and its descendants, with `compensate` after they were compensated, and settles."""
        await self.app.cancel(run_id, compensate=compensate)
        await self.settle()

    async def status(self, run_id: str) -> RunSnapshot:
        """Returns the run's snapshot, with its children."""
        return await self.app.status(run_id)

    async def journal(self, run_id: str) -> list[Entry]:
        """Returns the run's journal entries, in order."""
        return await self.app.journal(run_id)

    async def settle(self) -> None:
        """Waits until nothing can happen without advancing time; raises StandstillError if a handler does not end."""
        if not await self._bench.settle(self.app._events.due):
            flying = tuple(f"{call.name} of run {call.run_id}" for call in self._calls if not call.is_over)
            what = ", ".join(flying) or "the worker"
            raise StandstillError(f"Nothing happened for {self._patience:g} real seconds. In flight: {what}.", flying)

    async def advance(
        self,
        by: Duration = 0,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        until: datetime | None = None,
    ) -> None:
        """Advances time, fires each timer on the way at its own time, and settles after each."""
        await self.settle()
        more = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        target = self._bench.clock.wall() + micros(by, "advance") + micros(more, "advance")
        if until is not None:
            target = max(target, instant(until, "until"))
        while (due := self._bench.next_due) is not None and due <= target:
            await self._bench.move(due)
            await self.settle()
        await self._bench.move(target)
        await self.settle()

    async def run_until_end(self, run_id: str) -> dict[str, Any]:
        """Advances time until the run has ended (sleeps, retries, timeouts), and returns its results.

        Raises RunFailedError, RunCanceledError, and StandstillError if the run waits for something other than time.
        """
        await self.settle()
        while (await self._snapshot(run_id)).status not in ENDED:
            due = self._bench.next_due
            if due is None:
                return await self.result(run_id)
            await self._bench.move(due)
            await self.settle()
        return await self.app.result(run_id)

    async def result(self, run_id: str) -> dict[str, Any]:
        """Returns the results of a run that has ended, without advancing time.

        Raises RunFailedError, RunCanceledError, and StandstillError, which says what the run waits for.
        """
        await self.settle()
        snapshot = await self._snapshot(run_id)
        if snapshot.status not in ENDED:
            waits = tuple(_waits(one) for one in (snapshot, *(snapshot.children or ())) if one.status not in ENDED)
            raise StandstillError(f"Run {run_id} has not ended: {'; '.join(waits)}.", waits)
        return await self.app.result(run_id)

    async def _snapshot(self, run_id: str) -> RunSnapshot:
        return await self.app.status(run_id)


def _entered(inside: T | None) -> T:
    """The value that exists only while the harness is entered; raises DurableError otherwise."""
    if inside is None:
        raise DurableError("This Harness is not entered. Use it inside `async with Harness(…) as harness:`.")
    return inside


class _Recorder:
    """Records every call."""

    def __init__(self, calls: list[Call]) -> None:
        self._calls = calls

    async def enters(self, call: Call) -> None:
        """Record the call."""
        self._calls.append(call)

    async def leaves(self, call: Call) -> None:
        """Do nothing: the call is already recorded."""

    def waits(self, call: Call, times: int) -> None:
        """Do nothing."""

    def enters_plainly(self, call: Call) -> None:
        """Record the call."""
        self._calls.append(call)

    def leaves_plainly(self, call: Call) -> None:
        """Do nothing: the call is already recorded."""


def first_instant(begins: datetime | None) -> int:
    """The first instant in microseconds: `begins`, or the real time to the second."""
    return SystemRuntime().wall() // _SECOND * _SECOND if begins is None else instant(begins, "begins")


def _waits(snapshot: RunSnapshot) -> str:
    """A description of what the run waits for."""
    where = f"{snapshot.workflow_name} is at {snapshot.current_node}"
    reasons = [f'for the signal "{name}"' for name in snapshot.awaiting_signals]
    if snapshot.wake_at is not None:
        reasons.append(f"until {snapshot.wake_at:%Y-%m-%d %H:%M:%S}")
    return f"{where}, waiting {' or '.join(reasons)}" if reasons else where
