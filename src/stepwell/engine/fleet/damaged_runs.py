"""What a worker does about runs whose stored rows it does not understand (`stepwell.core.damage` says why so)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.errors import StoreUnavailableError
from stepwell.store.logs import logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from stepwell.engine.fleet.events import Events
    from stepwell.engine.fleet.lanes import Lanes
    from stepwell.errors import JournalError
    from stepwell.store.protocol import WorkerStore
    from stepwell.store.records import Lease

_log = logger("stepwell.run")
PUT_OFF_MICROS = 60_000_000
"""For how long a run is given back that this worker cannot go on with, and whose rows are not to blame."""


class DamagedRuns:
    """Parks damaged runs of one worker session, and has those of other releases looked at."""

    def __init__(
        self,
        worker_id: str,
        store: WorkerStore,
        lanes: Lanes,
        events: Events,
        give_back: Callable[[dict[str, int], int], Awaitable[None]],
    ) -> None:
        self._worker_id = worker_id
        self._store = store
        self._lanes = lanes
        self._events = events
        self._give_back = give_back

    async def park(self, lease: Lease, error: JournalError) -> None:
        """Gives the run back as it is, with the reason; it is logged the first time, and not each time it is tried."""
        try:
            times = await self._store.park_damaged(self._worker_id, lease, error.reason, self._lanes.validator)
        except StoreUnavailableError as away:
            _log.warning("Run %s stays leased to worker %s for now: %s", lease.run_id, self._worker_id, away)
        except Exception:  # noqa: BLE001  one run's fault must not stop the others
            _log.exception("Run %s cannot even be parked; trying again in a minute.", lease.run_id)
            await self._give_back({lease.run_id: lease.token}, PUT_OFF_MICROS)
        else:
            if times == 1:
                _log.error("%s. It is parked as it is; `stepwell why %s` shows its options.", error, lease.run_id)

    async def recheck(self, lanes: Sequence[int]) -> None:
        """Makes due what another release, or one with other definitions, has parked: this one may understand it.

        Where workers of both releases run beside each other, either of them may claim it then; so this is done seldom.
        """
        if lanes and await self._store.recheck_damaged(lanes, self._lanes.validator):
            self._events.due()
