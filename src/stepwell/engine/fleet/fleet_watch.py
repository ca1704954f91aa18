"""How a worker looks after the fleet: which of the others are dead, and which of its own runs others have by now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.engine.fleet.failure_detector import FailureDetector

if TYPE_CHECKING:
    from stepwell.engine.fleet.events import Events
    from stepwell.engine.fleet.worker_session import WorkerSession
    from stepwell.engine.settings import Settings
    from stepwell.runtime.protocol import Runtime
    from stepwell.store.protocol import FleetStore

_OFTEN_SECONDS = 0.5
_AT_LEAST_EVERY_SECONDS = 2.0
_GAP_SECONDS = 0.01
_RECHECK_SECONDS = 60.0
"""Between two looks for what workers of other releases have parked as damaged, while this one was there already."""


class FleetWatch:
    """The looks of one worker at its runs, often, and at the others, as often as one of them may have died."""

    def __init__(self, runtime: Runtime, store: FleetStore, settings: Settings, events: Events) -> None:
        self._runtime = runtime
        self._events = events
        self._failure_detector = FailureDetector(runtime, store, settings.lease_micros, settings.observers)
        self.often: float = min(_OFTEN_SECONDS, settings.lease_seconds / 4)
        """The seconds from one turn to the next."""
        seldom = min(_AT_LEAST_EVERY_SECONDS, settings.lease_seconds / 8)
        self._every = self.often if store.sees_death else seldom
        self._next_at = runtime.monotonic()
        self._rechecked: list[int] = []
        self._recheck_at = 0.0

    async def take_turn(self, session: WorkerSession) -> None:
        """Looks, and waits for the next time."""
        if self._runtime.monotonic() >= self._next_at:
            self._next_at = self._runtime.monotonic() + self._every
            if await self._failure_detector.expire_dead(frozenset({session.worker_id}), session.fit_since):
                self._events.due()
            soonest = max(self._failure_detector.soonest, _GAP_SECONDS)
            self._next_at = min(self._next_at, self._runtime.monotonic() + soonest)
        await self._recheck_damaged(session)
        await session.look_for_lost()
        await self._runtime.sleep(min(self.often, max(self._next_at - self._runtime.monotonic(), 0.0)))

    async def _recheck_damaged(self, session: WorkerSession) -> None:
        """Once for the lanes that the worker serves, whenever these change, and then once a minute.

        Not while the worker is enlisted: a store that fails then would leave a session that has half begun.
        """
        served = list(session.served)
        if served != self._rechecked or self._runtime.monotonic() >= self._recheck_at:
            await session.damaged.recheck(served)
            self._rechecked = served
            self._recheck_at = self._runtime.monotonic() + _RECHECK_SECONDS
