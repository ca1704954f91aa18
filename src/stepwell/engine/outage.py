"""Calls that are repeated while the store is unavailable."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from stepwell.errors import StoreUnavailableError
from stepwell.store.logs import logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stepwell.runtime.protocol import Runtime

T = TypeVar("T")
_log = logger("stepwell.store")
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0


async def retry_while_unavailable(runtime: Runtime, who: str, call: Callable[[], Awaitable[T]]) -> T:
    """What the call gives once the store is there, with longer and longer pauses until then."""
    pause = _FIRST_PAUSE
    while True:
        try:
            return await call()
        except StoreUnavailableError as error:
            _log.warning("%s, trying again in %.2f s: %s", who, pause, error)
            await runtime.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
