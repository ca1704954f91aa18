"""A store in virtual time that knows whether anything can still happen, and when the next timer is due.

Every app of a test uses the store through a `View`. So the bench knows which runs are leased and after which changes
a worker must poll again. If no run is leased and a poll after the last change found nothing, nothing happens until time
is advanced. The store reports that it is not shared, so there are no heartbeats and no failure detection.
"""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast

from stepwell.app import Durable
from stepwell.errors import DurableError
from stepwell.runtime.system import SystemRuntime
from stepwell.store_choice import store_for
from stepwell.testing.clock import VirtualRuntime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from stepwell.store.protocol import Store
    from stepwell.store.records import Advance, Claimed, Verdict
    from stepwell.workflow.builder import Workflow

MEMORY = "sqlite://"
_READS = frozenset({"load", "find_message", "workers", "define", "enlist"})
_WRITES = frozenset(
    {
        *("start", "commit", "deliver", "cancel", "request_cancel", "give_back", "park_damaged"),
        *("recheck_damaged", "retire", "expire", "sweep"),
    }
)
_VERBS = _READS | _WRITES | {"claim"}
_OWN = frozenset({"migrate", "open", "close"})
_CLOCK = '"{schema}".testing_clock'


class StandstillError(DurableError):
    """A handler does not end, or a run waits for something that will not arrive; `waiting` describes it."""

    def __init__(self, message: str, waiting: tuple[str, ...] = ()) -> None:
        self.waiting = waiting
        super().__init__(message)


class Bench:
    """The store of one test and its clock; `patience` is how many real seconds a handler may take."""

    def __init__(self, url: str, *, seed: int, begins: int, patience: float) -> None:
        self.url = url
        self.clock: VirtualRuntime = VirtualRuntime(begins, seed, seeded_ids=url == MEMORY)
        self.patience = patience
        self.changed: asyncio.Event = asyncio.Event()
        self.held: dict[str, str] = {}
        """The runs that are leased, by the worker that holds them."""
        self._outside = contextvars.copy_context()
        self._under_way: set[asyncio.Task[Any]] = set()
        self._changes = 0
        self._looked = -1
        self._next_due: int | None = None
        self._store: Any = None

    async def __aenter__(self) -> Self:
        """Opens the store and creates its tables; on PostgreSQL the store's instant becomes this clock's."""
        self._store = store_for(self.url, self.clock)
        by_system = self._store if self.url == MEMORY else store_for(self.url, SystemRuntime())
        await by_system.migrate()  # the table of this clock can only be made where the others are
        await self._store.open()
        if self._is_on_server:
            await self._execute(f"CREATE TABLE IF NOT EXISTS {self._clock_table} (at bigint NOT NULL)")
            await self._execute(f"DELETE FROM {self._clock_table}")  # noqa: S608  the name is the store's own
            await self._execute(f"INSERT INTO {self._clock_table} SELECT {self.clock.wall()}")
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.quiet()
        if self._is_on_server:
            await self._execute(f"DROP TABLE IF EXISTS {self._clock_table}")
        await self._store.close()

    def app(self, workflows: Iterable[Workflow], through: Through, **options: Any) -> Durable:
        """An app over this store, not entered, whose verbs go `through` that function."""
        store = cast("Store", View(self._store, through))
        return Durable(workflows=workflows, store=store, runtime=self.clock, **options)

    @property
    def _is_on_server(self) -> bool:
        return not self.url.startswith(MEMORY)

    @property
    def is_settled(self) -> bool:
        """Whether nothing happens until time is advanced or a call comes from outside."""
        return not self.held and self._looked == self._changes

    @property
    def next_due(self) -> int | None:
        """When the next timer is due, as of the last poll."""
        found = [at for at in (self._next_due, self.clock.next_waking()) if at is not None]
        return min(found, default=None)

    async def news(self) -> bool:
        """Waits until something happens; False if nothing did within `patience`.

        It waits twice for half of `patience`: a process that got no CPU time in the first half still has the second.
        """
        for _ in range(2):
            with suppress(TimeoutError):
                async with asyncio.timeout(self.patience / 2):
                    await self.changed.wait()
            if self.changed.is_set():
                self.changed.clear()
                return True
        return False

    async def settle(self, wake: Callable[[], None]) -> bool:
        """Waits until nothing moves; False if a handler does not end. `wake` makes the workers poll for due runs."""
        while not self.is_settled:
            if not self.held:
                wake()
            if not await self.news():
                return False
        return True

    async def move(self, to: int) -> None:
        """Advances time to that instant."""
        self.clock.move(to)
        if self._is_on_server:
            await self._execute(f"UPDATE {self._clock_table} SET at = {self.clock.wall()}")  # noqa: S608  as above
        self._changes += 1

    async def quiet(self) -> None:
        """Waits until no call of the store is in flight."""
        while self._under_way:
            await asyncio.wait(tuple(self._under_way))

    async def call(self, verb: str, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Runs the call to its end even if the caller is gone: a statement that was sent cannot be taken back."""
        work = self._done(verb, given, named)
        if not self._store.shared:
            return await work
        under_way = asyncio.get_running_loop().create_task(work, context=self._outside.copy())
        self._under_way.add(under_way)
        under_way.add_done_callback(self._under_way.discard)
        return await asyncio.shield(under_way)

    async def _done(self, verb: str, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        before = self._changes
        answer = await getattr(self._store, verb)(*given, **named)
        if verb == "claim":
            self._claimed(given[0], answer, before)
        elif verb in _WRITES:
            self._changes += 1
            self._let_go(verb, given, answer)
        self.changed.set()
        return answer

    def _claimed(self, worker_id: str, claimed: Claimed, before: int) -> None:
        if claimed.leases:
            self.held |= {lease.run_id: worker_id for lease in claimed.leases}
        elif claimed.alive:
            self._looked = before
            in_micros = claimed.next_due_in
            self._next_due = None if in_micros is None else claimed.now + in_micros

    def _let_go(self, verb: str, given: tuple[Any, ...], answer: Any) -> None:
        if verb == "commit":
            advances: list[Advance] = given[1]
            verdicts: list[Verdict] = answer
            for advance, verdict in zip(advances, verdicts, strict=True):
                if verdict == "lost" or (advance.release and verdict in {"ok", "done"}):
                    self.held.pop(advance.run_id, None)
        elif verb == "give_back":
            for run_id in given[1]:
                self.held.pop(run_id, None)
        elif verb == "park_damaged":
            self.held.pop(given[1].run_id, None)
        elif verb == "cancel":
            for run_id in answer or ():
                self.held.pop(run_id, None)
        elif verb in {"retire", "expire"}:
            self.held = {run_id: worker for run_id, worker in self.held.items() if worker != given[0]}

    @property
    def _clock_table(self) -> str:
        return _CLOCK.format(schema=self._store._location.schema)

    async def _execute(self, statement: str) -> None:
        await self._store._connections.run(lambda connection: connection.execute(statement))


Through: TypeAlias = "Callable[[str, tuple[Any, ...], dict[str, Any]], Awaitable[Any]]"
"""Given a verb and its arguments, gives the store's answer."""


class View:
    """The store as one app sees it: its verbs through a function, the rest as it is, and not shared."""

    shared = False

    def __init__(self, store: Any, through: Through) -> None:
        self._store = store
        self._through = through

    def __getattr__(self, name: str) -> Any:
        if name in _OWN:
            return _nothing
        return partial(self._do, name) if name in _VERBS else getattr(self._store, name)

    async def _do(self, verb: str, *given: Any, **named: Any) -> Any:
        return await self._through(verb, given, named)


async def _nothing() -> None:
    """The bench opens and closes the store, not its apps."""
