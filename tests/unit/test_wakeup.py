"""Looking for what other processes write, when a look fails for an unknown reason."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from stepwell.engine.fleet.events import Events
from stepwell.engine.fleet.wakeup import Wakeup
from stepwell.runtime.system import SystemRuntime
from stepwell.store.records import ANY_CHANGES, Changes
from tests.waiting import eventually

if TYPE_CHECKING:
    import pytest

    from stepwell.store.protocol import Store


class Stumbling:
    """A shared store, and its reader, whose first look fails and whose later ones find news."""

    shared = True

    def __init__(self) -> None:
        self.reader = self
        self._looks = 0

    async def changed(self) -> Changes | None:
        """Fails once."""
        self._looks += 1
        if self._looks == 1:
            raise ValueError("the look failed")
        return ANY_CHANGES


class Hasty(SystemRuntime):
    """Does not sleep, and remembers how long it was to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Lets the others go on."""
        self.asked.append(seconds)
        await asyncio.sleep(0)


async def test_i4_a_look_for_changes_that_fails_for_an_unknown_reason_is_logged_and_not_the_last(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Else whoever waits for a run of another process would wait for ever."""
    events, runtime, heard = Events(), Hasty(), list[int]()
    events.on_changed.append(lambda _: heard.append(1))
    wakeup = Wakeup(cast("Store", Stumbling()), runtime, events)
    wakeup.begin()
    await eventually(lambda: heard)
    wakeup.end()
    await wakeup.ended()
    assert runtime.asked[0] > runtime.asked[1], "a look that failed is not to be repeated at once"
    assert caplog.text.count("Looking for changes failed") == 1
    assert "the look failed" in caplog.text
