"""What must be done to its end, although the task that does it is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


async def through_cancels(work: Coroutine[Any, Any, T]) -> T:
    """What the work returns. A cancel of the caller does not reach the work, and is raised once that has ended.

    The work must have a limit of its own: until it ends the caller cannot be cancelled.
    """
    task = asyncio.get_running_loop().create_task(work)
    canceled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            canceled = error
    if canceled is None:
        return task.result()
    if not task.cancelled() and (error_of_work := task.exception()) is not None:
        raise canceled from error_of_work
    raise canceled
