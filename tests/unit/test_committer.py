"""The committer and an advance that the store refuses when its run has gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from stepwell.engine.driving.committer import Committer, RefusedError
from stepwell.runtime.system import SystemRuntime
from stepwell.store.protocol import Advance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell.store.protocol import Store, Verdict


class Strict:
    """A store that can keep nothing of some runs."""

    async def commit(self, worker_id: str, advances: Sequence[Advance]) -> list[Verdict]:
        """Refuses the whole batch for one of them."""
        for advance in advances:
            if advance.run_id.startswith("bad"):
                raise ValueError(f"{advance.run_id} cannot be kept")
        return ["ok"] * len(advances)


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
