"""Which of the other workers are dead: their rows are removed, and their runs are due again.

A worker is declared dead by another that is fit to judge: one whose own beats succeed, and that saw the same beat for
half a lease by its own steady clock while the store's clock says it was silent for a whole one. Otherwise every outage,
clock step and laptop's sleep would end live workers. Where the store knows for certain that a process has ended, its
runs are freed at once.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from stepwell.engine.observer import Observers, WorkerDead

if TYPE_CHECKING:
    from stepwell.runtime.protocol import Runtime
    from stepwell.store.protocol import FleetStore
    from stepwell.store.records import WorkerRow


class FailureDetector:
    """Watches the other workers and declares those dead that are."""

    def __init__(
        self, runtime: Runtime, store: FleetStore, lease_micros: int, observers: Observers | None = None
    ) -> None:
        self._observers = Observers() if observers is None else observers
        self._runtime = runtime
        self._store = store
        self._lease = lease_micros
        self._seen: dict[str, tuple[int, float]] = {}
        self.soonest: float = 0.0
        """In how many seconds a worker that was seen alive may be dead, if it stays silent."""

    async def expire_dead(self, own_ids: frozenset[str], fit_since: float) -> int:
        """Removes the workers that are dead, and returns how many runs that freed.

        `fit_since`: since when our own beats have succeeded, in monotonic seconds.
        """
        rows = [row for row in await self._store.workers() if row.worker_id not in own_ids]
        self._seen = {row.worker_id: self._sight(row) for row in rows}
        self.soonest = self._lease / 1_000_000
        freed = 0
        for row in rows:
            left = 0.0 if row.dead else self._left(row, fit_since)
            if left <= 0:
                freed += await self._expire(row, None if row.dead else self._lease)
            else:
                self.soonest = min(self.soonest, left)
        return freed

    def _left(self, row: WorkerRow, fit_since: float) -> float:
        """How many seconds it may stay silent before it is dead."""
        silent = (self._lease - row.silent_for + 1) / 1_000_000
        return max(silent, self._lease / 2_000_000 - self._watched_for(row, fit_since))

    def _sight(self, row: WorkerRow) -> tuple[int, float]:
        before = self._seen.get(row.worker_id)
        return before if before is not None and before[0] == row.beat else (row.beat, self._runtime.monotonic())

    def _watched_for(self, row: WorkerRow, fit_since: float) -> float:
        return self._runtime.monotonic() - max(self._seen[row.worker_id][1], fit_since)

    async def _expire(self, row: WorkerRow, silent_for: int | None) -> int:
        freed = await self._store.expire(row.worker_id, silent_for)
        if freed is None:
            return 0
        if self._observers.worker_dead:
            silent = None if silent_for is None else timedelta(microseconds=row.silent_for)
            self._observers.tell(self._observers.worker_dead, WorkerDead(row.worker_id, row.host, silent, freed))
        return freed
