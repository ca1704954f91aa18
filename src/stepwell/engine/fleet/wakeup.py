"""Noticing what other processes write: a cheap look, often while there is news and seldom while there is none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from stepwell.errors import StoreUnavailableError
from stepwell.store.background import Lasting
from stepwell.store.logs import logger

if TYPE_CHECKING:
    from stepwell.engine.fleet.events import Events
    from stepwell.runtime.protocol import Runtime
    from stepwell.store.protocol import Store

_log = logger("stepwell.worker")
_BUSY_SECONDS = 0.015
"""From the beginning of one look to that of the next, so that a look which waits for news misses none."""
_IDLE_SECONDS = 0.1
_AWAY_SECONDS = 1.0


class Wakeup:
    """Looks for changes as long as something in this process waits for one."""

    def __init__(self, store: Store, runtime: Runtime, events: Events) -> None:
        self._store = store
        self._runtime = runtime
        self._events = events
        self._users = 0
        self._looking: Lasting | None = None
        self._ending: set[asyncio.Future[None]] = set()

    def begin(self) -> None:
        """One more waits."""
        self._users += 1
        if self._looking is None and self._store.shared:
            self._looking = Lasting(self._look, "stepwell-wakeup")

    def end(self) -> None:
        """One waits no more."""
        self._users -= 1
        if self._users == 0 and self._looking is not None:
            looking, self._looking = self._looking, None
            looking.cancel()
            self._ending.add(looking.ended)
            looking.ended.add_done_callback(self._ending.discard)

    async def ended(self) -> None:
        """Returns when no look is under way that is not wanted any more."""
        while self._ending:
            await asyncio.wait(set(self._ending))

    async def _look(self) -> None:
        pause = _BUSY_SECONDS
        while True:
            began = self._runtime.monotonic()
            try:
                changes = await self._store.reader.changed()
            except StoreUnavailableError as error:
                _log.warning("Cannot look for changes: %s", error)
                pause = _AWAY_SECONDS
            except Exception:  # noqa: BLE001  who looks no more, and says nothing, would leave all who wait waiting
                _log.exception("Looking for changes failed; trying again.")
                pause = _AWAY_SECONDS
            else:
                pause = min(pause * 2, _IDLE_SECONDS) if changes is None else _BUSY_SECONDS
                if changes is not None:
                    self._events.changed(changes)
            await self._runtime.sleep(max(0.0, pause - (self._runtime.monotonic() - began)))
