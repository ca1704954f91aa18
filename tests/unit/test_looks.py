"""Looking for what others write: as long as somebody waits, soon again after news, and again if some come meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from stepwell.engine.fleet.events import Events, WakeFlag
from stepwell.engine.fleet.waiters import Waiters
from stepwell.engine.fleet.wakeup import Wakeup
from stepwell.runtime.system import SystemRuntime
from stepwell.store.records import ANY_CHANGES, Changes
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell.core.statuses import Status
    from stepwell.store.protocol import Store


class Watched:
    """A shared store, and its reader: each look at runs is held until it is let; there is news as the test says."""

    shared = True

    def __init__(self) -> None:
        self.reader = self
        self.looks = 0
        self.news = False
        self.over: set[str] = set()
        self.gates: list[asyncio.Event] = []

    async def changed(self) -> Changes | None:
        """What there is of news."""
        self.looks += 1
        return ANY_CHANGES if self.news else None

    async def ended(self, run_ids: Sequence[str]) -> dict[str, Status | None]:
        """The runs that have ended as the look begins, told when it is let."""
        over: dict[str, Status | None] = {run_id: "completed" for run_id in run_ids if run_id in self.over}
        gate = asyncio.Event()
        self.gates.append(gate)
        await gate.wait()
        return over


class Unhurried(SystemRuntime):
    """Time stands still, and who sleeps only lets the others go on; how long it was to sleep is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def monotonic(self) -> float:
        """Always the same."""
        return 0.0

    async def sleep(self, seconds: float) -> None:
        """Lets the others go on."""
        self.asked.append(seconds)
        await asyncio.sleep(0)


async def test_i4_a_change_that_comes_during_a_look_is_looked_for_after_it() -> None:
    store, events = Watched(), Events()
    as_store = cast("Store", store)
    waiters = Waiters(as_store, events, Wakeup(as_store, SystemRuntime(), Events()))
    waiting = asyncio.create_task(waiters.ended("run", 20))
    await eventually(lambda: len(store.gates) == 1)
    events.changed(ANY_CHANGES)
    await eventually(lambda: len(store.gates) == 2)
    store.over = {"run"}
    events.changed(Changes(frozenset(), ended=True))
    for gate in store.gates:
        gate.set()
    await eventually(lambda: len(store.gates) == 3)
    store.gates[2].set()
    await waiting


async def test_i4_who_waits_no_more_leaves_the_looking_to_those_who_do() -> None:
    store, runtime = Watched(), Unhurried()
    wakeup = Wakeup(cast("Store", store), runtime, Events())
    wakeup.begin()
    wakeup.begin()
    wakeup.end()
    await wakeup.ended()
    looks = store.looks
    await eventually(lambda: store.looks > looks)
    wakeup.end()
    await wakeup.ended()
    looks = store.looks
    for _ in range(5):
        await asyncio.sleep(0)
    assert store.looks == looks


async def test_looks_are_seldom_while_there_is_no_news_and_often_again_after_some() -> None:
    store, runtime = Watched(), Unhurried()
    wakeup = Wakeup(cast("Store", store), runtime, Events())
    wakeup.begin()
    await eventually(lambda: len(runtime.asked) > 8)
    seldom = runtime.asked[-1]
    assert 0.05 < seldom <= 0.1
    store.news = True
    await eventually(lambda: runtime.asked[-1] < seldom / 3)
    store.news = False
    looks = len(runtime.asked)
    await eventually(lambda: len(runtime.asked) > looks + 8)
    assert runtime.asked[-1] == seldom
    wakeup.end()
    await wakeup.ended()


async def test_an_alarm_tells_whether_it_rang_or_the_time_was_over() -> None:
    wake_flag = WakeFlag()
    assert not await wake_flag.wait(0)
    wake_flag.set()
    assert await wake_flag.wait(20)
    wake_flag.clear()
    assert not await wake_flag.wait(0)
