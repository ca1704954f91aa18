"""Runs with large journals that are woken together: they are loaded piece by piece, and few are held at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stepwell import Context, Durable, durable
from stepwell.runtime.system import SystemRuntime
from stepwell.runtime.tuning import Tuning
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

RUNS = 20
BYTES = 1_000_000
MOST = 3_000_000
PIECE = 4 * 2**20
STEPS = 6
CALLS = 4


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_a_worker_holds_a_bounded_number_of_bytes_whatever_is_due(kind: str, tmp_path: Path) -> None:
    runtime = SystemRuntime(Tuning(most_held_bytes=MOST))
    seen: list[int] = []

    async def large(ctx: Context) -> str:
        return "x" * BYTES

    async def after(ctx: Context) -> int:
        seen.append(working._worker_session.room.size)
        return len(ctx.results["large"])

    workflow = durable("large").step("large", large).wait_for_signal("wait", "go").step("after", after)
    url = "sqlite://" if kind == "memory" else f"sqlite:///{tmp_path / 'store.db'}"
    async with Durable(url, workflows=[workflow], runtime=runtime) as app:
        runs = await app.start_many(workflow, range(RUNS))

        async def all_are(status: str) -> bool:
            return len(await app.list(status=status)) == RUNS

        async with app.worker() as working:
            await eventually(lambda: all_are("suspended"))
        for run in runs:
            await app.signal(run.run_id, "go")
        async with app.worker() as working:
            await eventually(lambda: all_are("completed"))
    assert max(seen) <= MOST + PIECE + BYTES


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_runs_whose_results_grow_leave_a_worker_and_all_of_them_end(kind: str, tmp_path: Path) -> None:
    runtime = SystemRuntime(Tuning(most_held_bytes=MOST, crowded_bytes=MOST + BYTES))
    seen: list[int] = []

    async def large(ctx: Context) -> str:
        seen.append(working._worker_session.room.size)
        return "x" * BYTES

    workflow = durable("large")
    for number in range(STEPS):
        workflow.step(f"large{number}", large)
    url = "sqlite://" if kind == "memory" else f"sqlite:///{tmp_path / 'store.db'}"
    async with Durable(url, workflows=[workflow], runtime=runtime) as app:
        await app.start_many(workflow, range(RUNS))

        async def all_are_completed() -> bool:
            return len(await app.list(status="completed")) == RUNS

        async with app.worker(concurrency=CALLS) as working:
            await eventually(all_are_completed)
        assert working._worker_session.room.size == 0
    # 2 CALLS runs are in hand; each may have one result more under way, and what is claimed makes a call
    assert max(seen) <= MOST + BYTES + 2 * CALLS * BYTES
