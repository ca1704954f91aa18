"""Those who wait for runs to end: told at once by this process, and found by a look at the store when others write."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

from stepwell.errors import DurableError, RunNotFoundError, StoreUnavailableError
from stepwell.store.background import Lasting
from stepwell.store.logs import logger

if TYPE_CHECKING:
    from stepwell.core.statuses import Status
    from stepwell.engine.fleet.events import Completed, Events
    from stepwell.engine.fleet.wakeup import Wakeup
    from stepwell.store.protocol import Store
    from stepwell.store.records import Changes

_End: TypeAlias = "DurableError | Completed | None"
"""How a wait ends: by an error, with the results, or with a run that is to be read."""
_log = logger("stepwell.worker")
_LEFT = "The app was left while result() waited for run {run_id}; the run goes on wherever a worker has it."


class Waiters:
    """Futures by run id; one query looks for all of them."""

    def __init__(self, store: Store, events: Events, wakeup: Wakeup) -> None:
        self._store = store
        self._events = events
        self._wakeup = wakeup
        self._waiting: dict[str, list[asyncio.Future[_End]]] = {}
        self._looking: Lasting | None = None
        self._again = False
        events.on_ended.append(self._ended)
        events.on_changed.append(self._changed)

    async def ended(self, run_id: str, timeout: float | None) -> Completed | None:
        """Returns when the run has ended: its results if it was completed here meanwhile, so that nothing need be read.

        Raises RunNotFoundError, TimeoutError, and DurableError after `close`.
        """
        future: asyncio.Future[_End] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(run_id, []).append(future)
        self._wakeup.begin()
        try:
            try:
                known = await self._store.reader.ended([run_id])
            except StoreUnavailableError:
                # The app may be left during the first look: then the store is closed, and `close` has told why.
                if not future.done():
                    raise
            else:
                self._tell(run_id, known.get(run_id, "running"))
            done, _ = await asyncio.wait({future}, timeout=timeout)
            if not done:
                raise TimeoutError(f"run {run_id} has not ended within {timeout:g} s; it goes on")
            end = future.result()
            if isinstance(end, DurableError):
                raise end
            return end
        finally:
            waiting = self._waiting.get(run_id, [])
            if future in waiting:
                waiting.remove(future)
                if not waiting:
                    del self._waiting[run_id]
            self._wakeup.end()

    def close(self) -> None:
        """Ends all waits with an error: the app is being left, and nothing more would tell them of an end."""
        waiting, self._waiting = self._waiting, {}
        for run_id, futures in waiting.items():
            for future in futures:
                if not future.done():
                    future.set_result(DurableError(_LEFT.format(run_id=run_id)))
        if self._looking is not None:
            self._looking.cancel()

    def _ended(self, run_id: str, completed: Completed | None) -> None:
        if run_id in self._waiting:
            self._tell(run_id, "completed", completed)

    def _tell(self, run_id: str, status: Status | None, completed: Completed | None = None) -> None:
        if status in {"pending", "running"}:
            return
        for future in self._waiting.pop(run_id, []):
            if not future.done():
                future.set_result(RunNotFoundError(run_id) if status is None else completed)

    def _changed(self, changes: Changes) -> None:
        if changes.ended:
            self._look()

    def _look(self) -> None:
        """Looks for all at once; when something changes during a look, looks again after it."""
        if self._looking is not None and not self._looking.is_over:
            self._again = True
        elif self._waiting:
            self._looking = Lasting(self._look_on, "stepwell-waiters")

    async def _look_on(self) -> None:
        try:
            self._again = True
            while self._again and self._waiting:
                self._again = False
                for run_id, status in (await self._store.reader.ended(list(self._waiting))).items():
                    self._tell(run_id, status)
        except StoreUnavailableError as error:
            _log.warning("Cannot look for runs that have ended: %s", error)
