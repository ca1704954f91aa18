"""Workers whose entering and leaving is cancelled at drawn moments, once or twice, in a process that lives on."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import random
    from collections.abc import Coroutine
    from contextlib import AbstractAsyncContextManager

    from stepwell.engine.fleet.worker import Worker
    from tests.simulation.faults import FaultPlan

T = TypeVar("T")
ENTERINGS, STOPS, TWICE = 0.1, 0.5, 0.3
"""How many of them are cancelled, and of those how many once more."""
_SOON = 0.4
"""Within so many seconds: the grace is shorter, and what follows it is quicker than that, but for a slow store."""


class Leaving:
    """How one process enters and leaves its workers."""

    def __init__(self, chance: random.Random, fault_plan: FaultPlan, lease: float, faults: list[str]) -> None:
        self._chance = chance
        self._fault_plan = fault_plan
        self._lease = lease
        self._faults = faults

    async def enter(self, worker: AbstractAsyncContextManager[Worker]) -> Worker:
        """Enters it, perhaps at the second try, when nothing is left of the first."""
        if self._strikes("entering is cancelled", ENTERINGS):
            entering = await self._cancelled(worker.__aenter__())
            if not entering.cancelled():
                return entering.result()
        return await worker.__aenter__()

    async def leave(self, worker: Worker) -> None:
        """Leaves it. Where that was cancelled, nothing of it may live on, and its process goes on for a while."""
        if not self._strikes("stop is cancelled", STOPS):
            await worker.__aexit__(None, None, None)
            return
        leaving = await self._cancelled(worker.__aexit__(None, None, None))
        if not leaving.cancelled():
            leaving.result()
        alive = [work.name for work in worker._beside if not work.is_over]
        if alive or worker._worker_session.held:
            self._faults.append(
                f"leaving: a stop was cancelled, and there live on {alive}, {worker._worker_session.held} runs"
            )
        await asyncio.sleep(self._chance.uniform(0, 2 * self._lease))

    def _strikes(self, kind: str, share: float) -> bool:
        return self._fault_plan.active and self._chance.random() < share and self._fault_plan.counts(kind)

    async def _cancelled(self, what: Coroutine[object, object, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(what)
        with suppress(asyncio.CancelledError):
            for _ in range(1 + (self._chance.random() < TWICE)):
                await asyncio.wait({task}, timeout=self._chance.uniform(0, _SOON))
                task.cancel()
            await asyncio.wait({task})
        return task
