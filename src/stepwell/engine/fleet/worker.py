"""The worker: claims due runs as it has room, watches over the other workers, and stops without losing anything."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack, contextmanager, suppress
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

from stepwell.engine.driving.perform import Performer
from stepwell.engine.driving.slots import Slots
from stepwell.engine.fleet.claims import Claims
from stepwell.engine.fleet.fleet_watch import FleetWatch
from stepwell.engine.fleet.leaving import through_cancels
from stepwell.engine.fleet.loops import Loop, take_turns
from stepwell.engine.fleet.worker_session import WorkerSession
from stepwell.errors import DurableError, StoreUnavailableError
from stepwell.store.background import Lasting
from stepwell.store.logs import logger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from stepwell.engine.fleet.app_session import AppSession
    from stepwell.engine.fleet.events import Events
    from stepwell.engine.fleet.lanes import Lanes
    from stepwell.engine.fleet.wakeup import Wakeup
    from stepwell.engine.settings import Settings
    from stepwell.runtime.protocol import Runtime
    from stepwell.store.protocol import Store

T = TypeVar("T")
_log = logger("stepwell.worker")
_AWAY_SECONDS = 0.5


class Stage(Enum):
    """How far a worker's life has gone, as a message says it."""

    NEW = "was not entered"
    ENTERING = "is being entered"
    INSIDE = "is entered already"
    LEAVING = "is being left"
    LEFT = "was left"
    STOPPED_BY_APP = "was stopped when its app was left"


class Worker:
    """An async context manager: entered, it claims and advances runs until it is left."""

    def __init__(
        self,
        *,
        session: AppSession,
        store: Store,
        runtime: Runtime,
        settings: Settings,
        lanes: Lanes,
        events: Events,
        wakeup: Wakeup,
        concurrency: int,
        threads: int,
        grace: float,
        queues: Sequence[str],
    ) -> None:
        self._session = session
        self._store = store
        self._runtime = runtime
        self._settings = settings
        self._lanes = lanes
        self._events = events
        self._wakeup = wakeup
        self._concurrency = concurrency
        self._thread_limit = threads
        self._grace = grace
        self._queues = tuple(queues)
        self._stage = Stage.NEW
        self._stopping = False
        self._claims: Claims
        self._worker_session: WorkerSession
        self._loops: list[Lasting] = []
        self._renewal: Lasting | None = None
        self._looking = ExitStack()
        """What ends when the worker claims nothing more."""
        self._working = ExitStack()
        """What ends when its handlers have ended, too."""
        self._gone = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._session.check()
        if self._stage is not Stage.NEW:
            raise DurableError(f"This worker {self._stage.value}. Make another one with app.worker().")
        self._stage = Stage.ENTERING
        self._session.workers.append(self)
        self._gone.clear()
        try:
            await self._begin()
        except BaseException:
            self._stage = Stage.NEW
            self._tell_gone()
            raise
        self._stage = Stage.INSIDE
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self._session.check_place()
        if self._stage is Stage.STOPPED_BY_APP:
            message = f"This worker {self._stage.value}, before it. Leave the worker first, then the app."
            if error is None:
                raise DurableError(message)
            _log.warning("%s", message)  # what is being raised already tells more
            return
        if self._stage is not Stage.INSIDE:
            raise DurableError(f"This worker {self._stage.value}, so it cannot be left.")
        await self._stop(Stage.LEFT)

    async def leave_with_app(self) -> None:
        """Stops, since the app is left first; or waits, where the worker is being entered or left just now."""
        if self._stage is Stage.INSIDE:
            await self._stop(Stage.STOPPED_BY_APP)
            return
        try:
            await self._gone.wait()
        except asyncio.CancelledError:
            if self._stage is Stage.LEAVING:
                self._drop()
            await through_cancels(self._gone_within(self._runtime.tuning.quick_seconds))
            raise

    async def _begin(self) -> None:
        self._slots = Slots(self._concurrency)
        self._threads = self._runtime.threads(self._thread_limit)
        self._performer = Performer(self._slots, self._threads, self._settings.step_timeout_micros)
        self._claims = Claims(
            self._runtime,
            self._store,
            self._lanes,
            self._threads,
            queues=self._queues,
            on_declared_dead=self._renew,
        )
        await self._claims.begin()
        self._worker_session = self._new_worker_session()
        await self._enlist(self._worker_session)
        # From here on nothing waits, so that no cancel comes between: either all of it has begun, or nothing has.
        self._looking.enter_context(_listed(self._events.on_due, self._claims.wake_flag.set))
        self._looking.enter_context(_listed(self._events.on_changed, self._claims.on_changed))
        self._wakeup.begin()
        self._looking.callback(self._wakeup.end)
        self._working.enter_context(_listed(self._events.on_canceled, self._cancel))
        self._working.enter_context(_listed(self._events.on_answered, self._look_for_answers))
        self._working.enter_context(_listed(self._events.on_cancel_requested, self._ask_cancel))
        self._working.callback(self._threads.close)
        self._working.callback(self._performer.close)
        if self._store.shared:
            self._working.enter_context(self._runtime.share_quickly())
        self._loops = [
            Lasting(partial(take_turns, loop, self._runtime, lambda: self.worker_id), f"stepwell-{loop.name}")
            for loop in self._loops_of_worker()
        ]

    def _loops_of_worker(self) -> list[Loop]:
        """All that this worker does again and again until it is left."""
        loops = [Loop("claim", "claim runs", lambda: self._claims.take_turn(self._worker_session), _AWAY_SECONDS)]
        if self._store.shared:
            watch = FleetWatch(self._runtime, self._store, self._settings, self._events)
            loops.append(
                Loop("watch", "look after the others", lambda: watch.take_turn(self._worker_session), watch.often)
            )
        return loops

    async def _stop(self, stage: Stage) -> None:
        """Stops within the grace; when that is cancelled, at once: nothing of the worker outlives this call."""
        self._stage = Stage.LEAVING
        self._stopping = True
        self._slots.close()
        self._threads.turn_away()
        self._worker_session.is_stopping = True
        try:
            await self._wind_down()
        except BaseException as error:
            # First all that needs no waiting: should even the rest be cut short, no beat keeps the runs leased.
            self._drop()
            if not isinstance(error, GeneratorExit):
                await through_cancels(self._end_quickly())
            raise
        finally:
            self._looking.close()
            self._working.close()
            self._stage = stage
            self._tell_gone()
            self._events.due()

    async def _wind_down(self) -> None:
        """Claims nothing more, lets handlers end within the grace, and gives all runs back."""
        if self._renewal is not None:
            await asyncio.wait({self._renewal.ended})
        for loop in self._loops:
            loop.cancel()
        await asyncio.wait({loop.ended for loop in self._loops})
        self._looking.close()
        await self._wakeup.ended()
        await self._worker_session.stop(self._grace)
        await self._performer.closed()

    async def _end_quickly(self) -> None:
        """What is left to do after `_drop`, within a moment; runs that are not given back are free by their lease."""
        until = self._runtime.monotonic() + self._runtime.tuning.quick_seconds
        await asyncio.wait({work.ended for work in self._beside}, timeout=self._runtime.tuning.quick_seconds / 2)
        self._worker_session.drop()  # again: it may be one that a renewal had begun just then
        try:
            await self._worker_session.end_quickly(until - self._runtime.monotonic())
            await self._performer.closed()
        except Exception:  # noqa: BLE001  the cancel must be raised, whatever else goes wrong
            _log.exception("Worker %s could not stop as it should; its lease ends.", self.worker_id)

    def _drop(self) -> None:
        """Stops all that this worker does, without waiting for its end."""
        self._worker_session.drop()
        for work in self._beside:
            work.cancel()

    @property
    def _beside(self) -> list[Lasting]:
        return [*self._loops, self._renewal] if self._renewal is not None else self._loops

    def _tell_gone(self) -> None:
        self._session.workers.remove(self)
        self._gone.set()

    async def _gone_within(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._gone.wait()

    @property
    def worker_id(self) -> str:
        """The id under which it holds runs now."""
        return self._worker_session.worker_id

    def _new_worker_session(self) -> WorkerSession:
        worker_session = WorkerSession(
            self._runtime.new_id(),
            store=self._store,
            runtime=self._runtime,
            settings=self._settings,
            lanes=self._lanes,
            events=self._events,
            performer=self._performer,
            concurrency=self._concurrency,
            on_room=self._claims.wake_flag.set,
            on_declared_dead=lambda: self._renew(worker_session),
        )
        return worker_session

    async def _enlist(self, worker_session: WorkerSession) -> None:
        """Begins the session; nothing of it stays where that is cancelled, or the app was left meanwhile."""
        try:
            self._lanes.doubt()  # its row may be gone because all rows are, and the lanes with them
            lanes = await self._lanes.of_queues(self._queues)
            await worker_session.begin(socket.gethostname(), lanes, self._concurrency)
            if self._stage is Stage.ENTERING:
                self._session.check()
        except StoreUnavailableError:
            raise
        except BaseException as error:
            worker_session.drop()
            if not isinstance(error, GeneratorExit):
                await through_cancels(worker_session.end_quickly(self._runtime.tuning.quick_seconds))
            raise

    def _cancel(self, run_ids: list[str]) -> None:
        self._worker_session.cancel(run_ids)

    def _look_for_answers(self, run_id: str) -> None:
        self._worker_session.look_for_answers(run_id)

    def _ask_cancel(self, run_ids: list[str]) -> None:
        self._worker_session.ask_cancel(run_ids)

    def _renew(self, dead: WorkerSession) -> None:
        """This worker was declared dead: its runs are others' now, and it goes on under a new id."""
        if (
            self._stopping
            or dead is not self._worker_session
            or (self._renewal is not None and not self._renewal.is_over)
        ):
            return
        self._renewal = Lasting(self._renewed, "stepwell-renewal")

    async def _renewed(self) -> None:
        old, new = self._worker_session, self._new_worker_session()
        await old.abandon()
        while not self._stopping:
            try:
                await self._enlist(new)
            except StoreUnavailableError as error:
                _log.warning("Worker %s cannot enlist under a new id; trying again: %s", self.worker_id, error)
                await self._runtime.sleep(_AWAY_SECONDS)
            else:
                self._worker_session = new
                self._claims.wake_flag.set()
                return


@contextmanager
def _listed(known: list[T], one: T) -> Iterator[None]:
    """While entered, it is in the list."""
    known.append(one)
    try:
        yield
    finally:
        known.remove(one)
