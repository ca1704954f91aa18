"""Waiting for a condition in tests: the one place that polls. Nothing else in the tests sleeps to synchronise."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, TypeVar, overload

import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.01
PATIENCE = 60
"""Seconds that a test waits for what must happen before it fails: the one such number, for no test is about it."""

T = TypeVar("T")


@overload
async def eventually(condition: Callable[[], Awaitable[T | None]]) -> T: ...
@overload
async def eventually(condition: Callable[[], T | None]) -> T: ...
async def eventually(condition: Callable[[], Any]) -> Any:
    """Poll `condition`, plain or async, until it gives something true, and return that.

    Fails the test after `PATIENCE` seconds, telling what the condition gave last. What it raises is raised at once.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while True:
        seen = condition()
        value = await seen if inspect.isawaitable(seen) else seen
        if value:
            return value
        if loop.time() >= deadline:
            pytest.fail(
                f"{getattr(condition, '__qualname__', condition)} not within {PATIENCE} s; last seen: {value!r}"
            )
        await asyncio.sleep(POLL_SECONDS)
