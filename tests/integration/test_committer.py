"""The committer of a worker that goes while its store is away: nobody waits for ever for an answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from stepwell import StoreUnavailableError
from stepwell.engine.driving.committer import Committer
from stepwell.runtime.system import SystemRuntime
from stepwell.store.records import Advance
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell.store.protocol import Store
    from stepwell.store.records import Verdict


class Away:
    """A store that nobody reaches."""

    def __init__(self) -> None:
        self.asked = 0

    async def commit(self, worker_id: str, advances: Sequence[Advance]) -> list[Verdict]:
        """Is away."""
        self.asked += 1
        raise StoreUnavailableError("postgresql://nowhere", "it is away")


async def test_i4_what_a_store_that_is_away_never_answered_is_lost_when_the_committer_is_closed() -> None:
    store = Away()
    committer = Committer(cast("Store", store), SystemRuntime(), "ann")
    answers = [committer.commit(Advance(f"run {number}", 0, 1, 0, [], 0, "running")) for number in range(2)]
    await eventually(lambda: store.asked)
    answers.append(committer.commit(Advance("late", 0, 1, 0, [], 0, "running")))
    await committer.close(0)
    async with asyncio.timeout(5):
        assert [await answer for answer in answers] == ["lost"] * 3
