"""Waiting until nothing moves any more; the worker may be another process, so the store is asked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepwell import Durable

POLL_SECONDS = 0.02


async def none_left(app: Durable) -> None:
    """Returns once every run is parked or has ended."""
    while True:
        left = [await app.list(status=status, limit=1) for status in ("pending", "running")]
        if not any(left):
            return
        await asyncio.sleep(POLL_SECONDS)
