"""What those outside the workers make of a run that has ended, and of runs that nothing moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.engine.views import RunStatus
from stepwell.errors import Failure, JournalError, RunCanceledError, RunFailedError

if TYPE_CHECKING:
    from stepwell.engine.views import RunSnapshot
    from stepwell.store.protocol import Store


def results_of(ended: RunSnapshot) -> dict[str, Any]:
    """The results of a run that has ended; raises RunFailedError, RunCanceledError, JournalError of a damaged one."""
    if ended.status is RunStatus.CANCELED:
        raise RunCanceledError(ended.run_id)
    if ended.status is RunStatus.FAILED:
        unknown = Failure(ended.current_node or "", "Unknown", "the journal names no failure")
        raise RunFailedError(ended.run_id, ended.error or unknown, ended.compensated)
    if ended.damaged is not None:
        raise JournalError(ended.run_id, ended.damaged)
    return ended.results or {}


async def free_stranded(store: Store) -> int:
    """Frees the runs of workers that are certainly dead, and makes due what nothing else would; how many."""
    freed = 0
    for row in await store.workers():
        if row.dead:
            freed += await store.bury(row.worker_id, None) or 0
    return freed + await store.sweep()
