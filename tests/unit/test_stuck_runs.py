"""`list --stuck`, where most runs are as they should be: it looks further back than one page, and not for ever."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from stepwell import Durable, Reason, RunStatus
from stepwell.cli.choosing import MOST_EXAMINED, PAGE, stuck_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

RUNS = MOST_EXAMINED + PAGE


class Store:
    """An app with so many runs, the newest first, of which those of some numbers are stuck."""

    def __init__(self, runs: int, stuck: set[int]) -> None:
        self.ids = [f"{number:09d}" for number in range(runs)]
        self.stuck = {f"{number:09d}" for number in stuck}
        self.pages = 0

    async def list(self, *, before: str | None, limit: int) -> Sequence[Any]:
        """Those older than one, as an app gives them."""
        self.pages += 1
        older = [each for each in reversed(self.ids) if before is None or each < before]
        return [SimpleNamespace(run_id=each, status=RunStatus.RUNNING) for each in older[:limit]]

    async def explain_many(self, run_ids: Sequence[str]) -> dict[str, Any]:
        """Why each of them is not moving."""
        return {
            each: SimpleNamespace(reason=Reason.DUE_NO_WORKER if each in self.stuck else Reason.SLEEPING)
            for each in run_ids
        }


async def found(store: Store, limit: int) -> list[int]:
    """The numbers of the runs that are listed."""
    runs, why = await stuck_runs(cast("Durable", store), limit, {})
    assert set(why) >= {run.run_id for run in runs}
    return [int(run.run_id) for run in runs]


@pytest.mark.parametrize(("limit", "listed"), [(1, [450]), (3, [450, 210, 7]), (9, [450, 210, 7])])
async def test_stuck_runs_are_found_behind_pages_of_others_newest_first(limit: int, listed: list[int]) -> None:
    store = Store(3 * PAGE, stuck={7, 210, 450})
    assert await found(store, limit) == listed
    assert store.pages <= 4


async def test_it_looks_at_so_many_runs_and_no_more() -> None:
    store = Store(RUNS, stuck={1})
    assert await found(store, 1) == []
    assert store.pages == MOST_EXAMINED // PAGE
