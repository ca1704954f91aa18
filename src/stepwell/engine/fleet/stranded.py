"""Runs that nothing would move: those of workers that are certainly dead, and those that nothing makes due."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepwell.store.protocol import FleetStore


async def free_stranded(store: FleetStore) -> int:
    """Frees the runs of workers that are certainly dead, and makes due what nothing else would; how many."""
    freed = 0
    for row in await store.workers():
        if row.dead:
            freed += await store.expire(row.worker_id, None) or 0
    return freed + await store.sweep()
