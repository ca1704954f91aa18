"""Waiting for a condition in tests: the one place that polls. Nothing else in the tests sleeps to synchronise."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, TypeVar, overload

import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.01

T = TypeVar("T")


@overload
async def eventually(condition: Callable[[], Awaitable[T | None]], *, within: float = 10) -> T: ...
@overload
async def eventually(condition: Callable[[], T | None], *, within: float = 10) -> T: ...
async def eventually(condition: Callable[[], Any], *, within: float = 10) -> Any:
    """Poll `condition`, plain or async, until it gives something true, and return that.

    Fails the test after `within` seconds, telling what the condition gave last. What it raises is raised at once.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while True:
        seen = condition()
        value = await seen if inspect.isawaitable(seen) else seen
        if value:
            return value
        if loop.time() >= deadline:
            pytest.fail(f"{getattr(condition, '__qualname__', condition)} not within {within} s; last seen: {value!r}")
        await asyncio.sleep(POLL_SECONDS)
