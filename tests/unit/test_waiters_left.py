"""Tests of those who wait for the end of a run, over a store that answers when the test says so."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stepwell.engine.fleet.events import Events
from stepwell.engine.fleet.waiters import Waiters
from stepwell.errors import DurableError, StoreUnavailableError


class ClosingReader:
    """A reader whose look is under way until the test ends it, and then finds its store closed."""

    def __init__(self) -> None:
        self.begun, self.goes_on = asyncio.Event(), asyncio.Event()

    async def ended(self, run_ids: list[str]) -> dict[str, str]:
        self.begun.set()
        await self.goes_on.wait()
        raise StoreUnavailableError("sqlite://", "it is closed")


def waiters_over(reader: ClosingReader) -> Waiters:
    wakeup = SimpleNamespace(begin=lambda: None, end=lambda: None)
    return Waiters(cast("Any", SimpleNamespace(reader=reader)), Events(), cast("Any", wakeup))


async def test_a_wait_whose_app_is_left_during_its_first_look_says_that_the_run_goes_on() -> None:
    reader = ClosingReader()
    waiters = waiters_over(reader)
    wait = asyncio.create_task(waiters.ended("run", None))
    await reader.begun.wait()

    waiters.close()
    reader.goes_on.set()

    with pytest.raises(DurableError, match="the run goes on") as raised:
        await wait
    assert not isinstance(raised.value, StoreUnavailableError)


async def test_a_wait_whose_first_look_fails_raises_that() -> None:
    reader = ClosingReader()
    reader.goes_on.set()

    with pytest.raises(StoreUnavailableError, match="it is closed"):
        await waiters_over(reader).ended("run", None)
