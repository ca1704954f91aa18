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
    """Workflows over a store of their own, with one worker, in time that only the test lets pass.

    `fakes` take the place of handlers by name: a function is called as the handler would be, an exception is raised,
    anything else is the result. `begins` is the first instant (the real one, unless given), `seed` gives jitter and, in
    memory, ids. A handler may take `patience` in real time. Other options are those of `Durable`.
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
        """The app, for what the harness has no word for; `settle()` afterwards."""
        return _entered(self._app)

    @property
    def _bench(self) -> Bench:
        return _entered(self._last)

    @property
    def now(self) -> datetime:
        """The instant, in UTC; it moves by `advance` and `run_until_end` alone."""
        return self._bench.clock.instant

    def calls(self, name: str | None = None) -> list[Call]:
        """Every call of a handler or compensator so far, in order; of one name, if given.

        A name is a step's, loop's, entry's or branch's, with "undo " before it for its compensator.
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
        """Starts a run and settles; the run's id."""
        name = workflow if isinstance(workflow, str) else workflow.name
        started = await self.app.start(name, input, key=key, delay=delay)
        await self.settle()
        return started.run_id

    async def signal(self, run_id: str, name: str, data: Any = None, *, key: str | None = None) -> ResumeResult:
        """Delivers a signal, kept for a run that does not wait for it yet, and settles."""
        delivered = await self.app.signal(run_id, name, data, key=key)
        await self.settle()
        return delivered

    async def resume(self, run_id: str, signal: str, data: Any = None, *, key: str | None = None) -> ResumeResult:
        """Delivers a signal to a run that is suspended on it, and settles."""
        delivered = await self.app.resume(run_id, signal, data, key=key)
        await self.settle()
        return delivered

    async def cancel(self, run_id: str) -> None:
        """Cancels a run and its descendants, and settles."""
        await self.app.cancel(run_id)
        await self.settle()

    async def status(self, run_id: str) -> RunSnapshot:
        """How the run stands, with its children."""
        return await self.app.status(run_id)

    async def journal(self, run_id: str) -> list[Entry]:
        """What happened in the run, in order."""
        return await self.app.journal(run_id)

    async def settle(self) -> None:
        """Waits until nothing moves without time passing; raises StandstillError when a handler does not end."""
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
        """Lets time pass, firing each timer on the way at its own instant, and settles after each."""
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
        """Lets as much time pass as the run takes (sleeps, retries, timeouts), and gives its results.

        Raises RunFailedError, RunCanceledError, and StandstillError for a run that waits for what time does not bring.
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
        """The results of a run that has ended; no time passes.

        Raises RunFailedError, RunCanceledError, and StandstillError, saying what the run waits for.
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
    """What is there once the harness was entered."""
    if inside is None:
        raise DurableError("This Harness is not entered. Use it inside `async with Harness(…) as harness:`.")
    return inside


class _Recorder:
    """Notes every call."""

    def __init__(self, calls: list[Call]) -> None:
        self._calls = calls

    async def enters(self, call: Call) -> None:
        """Notes it."""
        self._calls.append(call)

    async def leaves(self, call: Call) -> None:
        """It was noted."""

    def waits(self, call: Call, times: int) -> None:
        """It may."""

    def enters_plainly(self, call: Call) -> None:
        """Notes it."""
        self._calls.append(call)

    def leaves_plainly(self, call: Call) -> None:
        """It was noted."""


def first_instant(begins: datetime | None) -> int:
    """The instant in microseconds: the real one, to the second, unless given."""
    return SystemRuntime().wall() // _SECOND * _SECOND if begins is None else instant(begins, "begins")


def _waits(snapshot: RunSnapshot) -> str:
    """What a run waits for, in words."""
    where = f"{snapshot.workflow_name} is at {snapshot.current_node}"
    reasons = []
    if snapshot.awaiting_signal is not None:
        reasons.append(f'for the signal "{snapshot.awaiting_signal}"')
    if snapshot.wake_at is not None:
        reasons.append(f"until {snapshot.wake_at:%Y-%m-%d %H:%M:%S}")
    return f"{where}, waiting {' or '.join(reasons)}" if reasons else where
