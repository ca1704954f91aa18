"""The committer and an advance that the store refuses when its run has gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from stepwell.engine.driving.committer import Committer, RefusedError
from stepwell.engine.observer import LeaseLost, Observer, Observers
from stepwell.runtime.system import SystemRuntime
from stepwell.store.records import Advance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell.store.protocol import Store
    from stepwell.store.records import Verdict


class Strict:
    """A store that can keep nothing of some runs."""

    async def commit(self, worker_id: str, advances: Sequence[Advance]) -> list[Verdict]:
        """Refuses the whole batch for one of them."""
        for advance in advances:
            if advance.run_id.startswith("bad"):
                raise ValueError(f"{advance.run_id} cannot be kept")
        return ["ok"] * len(advances)


class Elsewhere:
    """A store that says of some runs that another worker has them."""

    async def commit(self, worker_id: str, advances: Sequence[Advance]) -> list[Verdict]:
        """Loses those."""
        return ["lost" if advance.run_id.startswith("lost") else "ok" for advance in advances]


class Silent:
    """A store that does not answer."""

    async def commit(self, worker_id: str, advances: Sequence[Advance]) -> list[Verdict]:
        """Waits until it is cancelled."""
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nothing answers")


class Losses(Observer):
    """Hears of leases that were lost."""

    def __init__(self) -> None:
        self.heard: list[LeaseLost] = []

    def lease_lost(self, event: LeaseLost) -> None:
        """Keeps it."""
        self.heard.append(event)


async def test_i3_what_a_commit_finds_lost_is_told_once_a_batch() -> None:
    losses = Losses()
    committer = Committer(cast("Store", Elsewhere()), SystemRuntime(), "ann", Observers([losses]))
    answers = [committer.commit(Advance(run_id, 0, 1, 0, [], 0, "running")) for run_id in ("lost 1", "kept", "lost 2")]
    async with asyncio.timeout(20):
        assert [await answer for answer in answers] == ["lost", "ok", "lost"]
        await committer.close(1)
    assert losses.heard == [LeaseLost("ann", ("lost 1", "lost 2"))]


async def test_i4_a_refused_advance_that_nobody_waits_for_any_more_keeps_no_other_from_its_answer() -> None:
    committer = Committer(cast("Store", Strict()), SystemRuntime(), "ann")
    gone, bad, good = (
        committer.commit(Advance(run_id, 0, 1, 0, [], 0, "running")) for run_id in ("bad 1", "bad 2", "good")
    )
    gone.cancel()
    async with asyncio.timeout(20):
        with pytest.raises(RefusedError, match="bad 2"):
            await bad
        assert await good == "ok"
        await committer.close(1)


async def test_code_that_cancels_all_tasks_until_none_is_left_comes_to_an_end() -> None:
    committer = Committer(cast("Store", Silent()), SystemRuntime(), "w1")
    answer = committer.commit(Advance("one", 0, 1, 0, [], 0, "running"))
    own = asyncio.current_task()
    for _ in range(100):
        going = [task for task in asyncio.all_tasks() if task is not own]
        if not going:
            break
        for task in going:
            task.cancel()
        await asyncio.wait(going)
    assert [task for task in asyncio.all_tasks() if task is not own] == []
    assert not answer.done()
    await committer.close(1)
    assert await answer == "lost"
