"""How a worker claims: of which lanes, and when it looks again; how many runs is for its room to say.

Rule 1: lanes take turns at being first, timers and what is due at once take turns, too, so that none of them waits
behind all of another. Rule 2: what it was told of while a claim was answered leads to another claim: the flag is
cleared before the claim sets out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.engine.fleet.events import WakeFlag

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepwell.engine.fleet.lanes import Lanes
    from stepwell.engine.fleet.worker_session import WorkerSession
    from stepwell.runtime.protocol import Runtime
    from stepwell.runtime.threads import Threads
    from stepwell.store.protocol import Store
    from stepwell.store.records import Changes, Claimed


class Claims:
    """The claims of one worker, whatever id it has."""

    def __init__(
        self,
        runtime: Runtime,
        store: Store,
        lanes: Lanes,
        threads: Threads,
        *,
        queues: Sequence[str],
        on_declared_dead: Callable[[WorkerSession], None],
    ) -> None:
        self._runtime = runtime
        self._store = store
        self._lanes = lanes
        self._threads = threads
        self._queues = tuple(queues)
        self._on_declared_dead = on_declared_dead
        self._timers_first = False
        self._first_lane = 0
        self.wake_flag: WakeFlag = WakeFlag()

    async def begin(self) -> None:
        """Draws the lane that is first: or all workers would begin with the same one."""
        lanes = await self._lanes.of_queues(self._queues)
        self._first_lane = int(self._runtime.draw() * len(lanes))

    def on_changed(self, changes: Changes) -> None:
        """Looks for due runs, if what other processes changed may be in a lane of this worker's."""
        if changes.lanes is None or self._lanes.may_be_of(self._queues, changes.lanes):
            self.wake_flag.set()

    async def take_turn(self, session: WorkerSession) -> None:
        """Claims what there is room for, and waits until it is time to look again."""
        self.wake_flag.clear()
        room = 0 if session.is_stopping or self._is_stuck else session.room.to_claim
        if room <= 0:
            await self.wake_flag.wait(self._runtime.tuning.longest_wait_seconds)
            return
        asked_at = self._runtime.monotonic()
        claimed = await self._claim(session, room)
        await session.take(claimed, asked_at)
        if not claimed.alive:
            self._on_declared_dead(session)
        session.room.others_wait = claimed.cut or len(claimed.leases) == room
        # Runs were claimed and more are due: the next claim follows at once.
        if not session.room.others_wait and (not claimed.leases or claimed.next_due_in != 0):
            await self.wake_flag.wait(self._pause(claimed))

    @property
    def _is_stuck(self) -> bool:
        """Whether handlers whose time is over hold all threads; what waits for one goes to other workers."""
        if self._threads.is_full_of_stuck:
            self._threads.turn_away()
            return True
        return False

    async def _claim(self, session: WorkerSession, room: int) -> Claimed:
        lanes = await self._lanes.of_queues(self._queues)
        await session.serve(lanes)
        self._first_lane = (self._first_lane + 1) % max(len(lanes), 1)
        rotated = lanes[self._first_lane :] + lanes[: self._first_lane]
        self._timers_first = not self._timers_first
        suspects, worst = session.suspects_room
        return await self._store.claim(
            session.worker_id, rotated, room, suspects, worst=worst, timers_first=self._timers_first
        )

    def _pause(self, claimed: Claimed) -> float:
        longest = self._runtime.tuning.longest_wait_seconds
        return longest if claimed.next_due_in is None else min(max(claimed.next_due_in / 1_000_000, 0.0), longest)
