"""What those outside the workers make of a run that has ended, and of runs that nothing moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.engine.answers import RunStatus
from stepwell.engine.explain import explanations
from stepwell.engine.views import run_failed
from stepwell.errors import JournalError, RunCanceledError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell.engine.answers import RunSnapshot
    from stepwell.engine.explanations import Explanation
    from stepwell.store.protocol import Store


def results_of(ended: RunSnapshot) -> dict[str, Any]:
    """The results of a run that has ended; raises RunFailedError, RunCanceledError, JournalError of a damaged one."""
    if ended.status is RunStatus.CANCELED:
        raise RunCanceledError(ended.run_id)
    if ended.status is RunStatus.FAILED:
        raise run_failed(ended)
    if ended.damaged is not None:
        raise JournalError(ended.run_id, ended.damaged)
    return ended.results or {}


async def explained(store: Store, run_ids: Sequence[str], max_crashes: int) -> dict[str, Explanation]:
    """Why each of these runs is not moving; two questions to the store, however many there are."""
    situation = await store.reader.situation(run_ids)
    return explanations(situation, await store.workers(), shared=store.shared, max_crashes=max_crashes)


async def free_stranded(store: Store) -> int:
    """Frees the runs of workers that are certainly dead, and makes due what nothing else would; how many."""
    freed = 0
    for row in await store.workers():
        if row.dead:
            freed += await store.expire(row.worker_id, None) or 0
    return freed + await store.sweep()
