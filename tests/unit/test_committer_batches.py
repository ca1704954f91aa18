"""What goes into one batch of the committer, in which order, and what becomes of an advance whose run is held."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from stepwell.core.journal import JournalRow
from stepwell.engine.driving.committer import Committer
from stepwell.runtime.system import SystemRuntime
from stepwell.store.records import Advance
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell.store.protocol import Store
    from stepwell.store.records import Verdict


class Noting:
    """A store that notes its batches; what is asked of it about a run that is held is answered *busy*."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.held = {""}

    async def commit(self, worker_id: str, advances: Sequence[Advance]) -> list[Verdict]:
        """Keeps all but what concerns those that are held."""
        self.batches.append([one.run_id for one in advances])
        return ["busy" if one.run_id in self.held else "ok" for one in advances]


def of(run_id: str, value_bytes: int = 0) -> Advance:
    """An advance of that run with a value of so many bytes."""
    row = JournalRow(
        0, 1, "step", "", "do", 0, "step", 1, "completed", b"1" * value_bytes, None, None, None, 10, 20, "ann"
    )
    return Advance(run_id, 0, 1, 0, [row], 1, "running")


async def batches_of(*advances: Advance) -> list[list[str]]:
    """The batches by which advances are committed that came at one moment."""
    store = Noting()
    committer = Committer(cast("Store", store), SystemRuntime(), "ann")
    answers = [committer.commit(advance) for advance in advances]
    assert await asyncio.gather(*answers) == ["ok"] * len(advances)
    await committer.close(1)
    return store.batches


async def test_a_batch_has_no_more_than_256_runs() -> None:
    assert [len(batch) for batch in await batches_of(*(of(str(at)) for at in range(600)))] == [256, 256, 88]


async def test_a_batch_has_no_more_than_a_megabyte_of_values() -> None:
    assert [len(batch) for batch in await batches_of(*(of(str(at), 60_000) for at in range(20)))] == [16, 4]


async def test_a_value_larger_than_a_batch_goes_alone() -> None:
    assert await batches_of(of("huge", 3_000_000), of("large", 70_000)) == [["huge"], ["large"]]


async def test_small_values_do_not_wait_for_large_ones_that_came_before() -> None:
    assert await batches_of(of("large", 70_000), of("small")) == [["small"], ["large"]]


async def test_i4_what_was_busy_is_committed_again_though_nobody_else_commits() -> None:
    store = Noting()
    committer = Committer(cast("Store", store), SystemRuntime(), "ann")
    store.held = {"held"}
    answer = committer.commit(of("held"))
    await eventually(lambda: store.batches)
    store.held = set()
    async with asyncio.timeout(10):
        assert await answer == "ok"
    await committer.close(1)


async def test_i4_what_is_busy_when_the_committer_is_closed_is_lost_and_answered() -> None:
    """Also when another batch was committed since: then it is in no batch, and in no queue."""
    store = Noting()
    committer = Committer(cast("Store", store), SystemRuntime(), "ann")
    store.held = {"held"}
    held, other = committer.commit(of("held", 70_000)), committer.commit(of("other", 950_000))
    assert await other == "ok"
    assert not held.done()
    await committer.close(0)
    async with asyncio.timeout(10):
        assert await held == "lost"
