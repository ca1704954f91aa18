"""The worker: claims due runs as it has room, watches over the other workers, and stops without losing anything."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from stepwell.engine.events import Alarm, Events
from stepwell.engine.lease import Judge
from stepwell.engine.perform import Performer
from stepwell.engine.slots import Slots
from stepwell.engine.tenure import Tenure
from stepwell.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from stepwell.engine.lanes import Lanes
    from stepwell.engine.runtime import Runtime
    from stepwell.engine.settings import Settings
    from stepwell.engine.wakeup import Wakeup
    from stepwell.store.protocol import Claimed, Store

_log = logging.getLogger("stepwell.worker")
_LONGEST_WAIT = 5.0
_JUDGE_EVERY = 0.5
_JUDGE_AT_LEAST_EVERY = 2.0
_JUDGE_GAP = 0.01
_AWAY_SECONDS = 0.5
_MOST_A_CLAIM = 256


class Worker:
    """An async context manager: entered, it claims and advances runs until it is left."""

    def __init__(
        self,
        *,
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
        self._alarm = Alarm()
        self._stopping = False
        self._full = False
        self._turn = 0
        self._tenure: Tenure
        self._loops: list[asyncio.Task[None]] = []
        self._renewal: asyncio.Task[None] | None = None
        self._sharing = ExitStack()

    async def __aenter__(self) -> Self:
        self._slots = Slots(self._concurrency)
        self._threads = self._runtime.threads(self._thread_limit)
        self._performer = Performer(self._slots, self._threads, self._settings.step_timeout_micros)
        lanes = await self._lanes.of_queues(self._queues)
        self._turn = int(self._runtime.draw() * len(lanes))  # or all workers would begin with the same one
        self._judge = Judge(self._runtime, self._store, self._settings.lease_micros, self._settings.observers)
        self._tenure = self._new_tenure()
        await self._tenure.begin(socket.gethostname())
        self._events.on_due.append(self._alarm.ring)
        self._events.on_changed.append(self._alarm.ring)
        self._events.on_canceled.append(self._cancel)
        self._wakeup.begin()
        if self._store.shared:
            self._sharing.enter_context(self._runtime.share_quickly())
        loop = asyncio.get_running_loop()
        self._loops = [loop.create_task(self._claim_on(), name="stepwell-claim")]
        if self._store.shared:
            self._loops.append(loop.create_task(self._judge_on(), name="stepwell-judge"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self._stopping = True
        self._slots.close()
        self._threads.turn_away()
        self._tenure.is_stopping = True
        if self._renewal is not None:
            await asyncio.wait({self._renewal})
        for task in self._loops:
            task.cancel()
        await asyncio.wait(self._loops)
        self._events.on_due.remove(self._alarm.ring)
        self._events.on_changed.remove(self._alarm.ring)
        await self._wakeup.end()
        try:
            await self._tenure.stop(self._grace)
        finally:
            self._events.on_canceled.remove(self._cancel)
            self._threads.close()
            self._sharing.close()
            self._events.due()

    @property
    def worker_id(self) -> str:
        """The id under which it holds runs now."""
        return self._tenure.worker_id

    async def _claim_on(self) -> None:
        while not self._stopping:
            self._alarm.clear()
            room = self._room()
            if room <= 0:
                await self._alarm.wait(_LONGEST_WAIT)
                continue
            try:
                asked_at = self._runtime.monotonic()
                tenure = self._tenure
                claimed = await self._claim(room)
                await tenure.take(claimed, asked_at)
            except StoreUnavailableError as error:
                _log.warning("Cannot claim: %s", error)
                await self._runtime.sleep(_AWAY_SECONDS)
                continue
            except Exception:  # noqa: BLE001  a worker that claims no more, and says nothing, would strand its lanes
                _log.exception("Claiming failed; trying again.")
                await self._runtime.sleep(_AWAY_SECONDS)
                continue
            if not claimed.alive:
                self._renew(tenure)
            self._full = tenure.others_wait = len(claimed.leases) == room
            if not self._full:
                pause = _LONGEST_WAIT if claimed.next_due_in is None else claimed.next_due_in / 1_000_000
                if not claimed.leases or claimed.next_due_in != 0:
                    await self._alarm.wait(min(max(pause, 0.0), _LONGEST_WAIT))

    def _room(self) -> int:
        """How many runs to claim: up to twice the concurrency is held, and refilled when a quarter of that is free."""
        most = 2 * self._concurrency
        free = most - self._tenure.held
        if self._threads.is_full_of_stuck:
            self._threads.turn_away()  # to others: no thread may ever be free here again
            return 0
        if self._full and free * 4 < most and self._tenure.held > 0:
            return 0
        return min(free, _MOST_A_CLAIM)

    async def _claim(self, room: int) -> Claimed:
        lanes = await self._lanes.of_queues(self._queues)
        self._turn = (self._turn + 1) % max(len(lanes), 1)
        rotated = lanes[self._turn :] + lanes[: self._turn]
        return await self._store.claim(self._tenure.worker_id, rotated, room, self._tenure.suspects_room)

    async def _judge_on(self) -> None:
        often = min(_JUDGE_EVERY, self._settings.lease_seconds / 4)
        every = often if self._store.sees_death else min(_JUDGE_AT_LEAST_EVERY, self._settings.lease_seconds / 8)
        judge_at = self._runtime.monotonic()
        while True:
            try:
                if self._runtime.monotonic() >= judge_at:
                    judge_at = self._runtime.monotonic() + every
                    if await self._judge.judge(frozenset({self._tenure.worker_id}), self._tenure.fit_since):
                        self._events.due()
                    judge_at = min(judge_at, self._runtime.monotonic() + max(self._judge.soonest, _JUDGE_GAP))
                await self._tenure.look_for_lost()
            except StoreUnavailableError as error:
                _log.warning("Cannot look after the other workers: %s", error)
            except Exception:  # noqa: BLE001  as above: the dead must not stay unburied
                _log.exception("Looking after the other workers failed; trying again.")
            await self._runtime.sleep(min(often, max(judge_at - self._runtime.monotonic(), 0.0)))

    def _new_tenure(self) -> Tenure:
        tenure = Tenure(
            self._runtime.new_id(),
            store=self._store,
            runtime=self._runtime,
            settings=self._settings,
            lanes=self._lanes,
            events=self._events,
            performer=self._performer,
            on_room=self._alarm.ring,
            on_buried=lambda: self._renew(tenure),
        )
        return tenure

    def _cancel(self, run_ids: list[str]) -> None:
        self._tenure.cancel(run_ids)

    def _renew(self, buried: Tenure) -> None:
        """This worker was buried: its runs are others' now, and it goes on under a new id."""
        if self._stopping or buried is not self._tenure or (self._renewal is not None and not self._renewal.done()):
            return
        self._renewal = asyncio.get_running_loop().create_task(self._renewed(), name="stepwell-renewal")

    async def _renewed(self) -> None:
        old, new = self._tenure, self._new_tenure()
        await old.abandon()
        while not self._stopping:
            try:
                await new.begin(socket.gethostname())
            except StoreUnavailableError as error:
                _log.warning("Cannot enlist again: %s", error)
                await self._runtime.sleep(_AWAY_SECONDS)
            else:
                self._tenure = new
                self._alarm.ring()
                return
