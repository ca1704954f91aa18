"""A step or a compensator that kills its worker: it fails alone and for good, and all else goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stepwell import RunFailedError
from tests.programs import processes
from tests.programs.gated import HandlersLog
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

HEALTHY = 99
MAX_CRASHES = 5
FEW_CRASHES = 2
MOST_WORKERS = 12


async def test_i4_of_a_poison_step_among_healthy_runs_the_poison_fails_alone(tmp_path: Path) -> None:
    """The healthy ones share the first deaths, and so become suspects too; from then on each runs by itself."""
    async with processes.client(tmp_path) as app:
        before = await app.start_many("gated", range(HEALTHY // 2))
        poison = await app.start("poison")
        after = await app.start_many("gated", range(HEALTHY - HEALTHY // 2))
        deaths = 0

        async def ended_or_died() -> bool:
            return worker.ended or (await app.status(poison.run_id)).status == "failed"

        while (await app.status(poison.run_id)).status != "failed":
            assert deaths < MOST_WORKERS
            async with processes.gated_worker(tmp_path, max_crashes=MAX_CRASHES) as worker:
                await eventually(ended_or_died)
                deaths += worker.ended
            if deaths == 2:
                processes.let(tmp_path)
        async with processes.gated_worker(tmp_path, max_crashes=MAX_CRASHES) as worker:
            for each in [*before, *after]:
                results = await app.result(each.run_id, timeout=PATIENCE)
                assert results["work"]["attempt"] == 1
            with pytest.raises(RunFailedError) as caught:
                await app.result(poison.run_id, timeout=PATIENCE)
        failed = [run.run_id for run in await app.list(status="failed")]
    assert failed == [poison.run_id]
    assert (caught.value.error.node, caught.value.error.type) == ("kill", "CrashLimit")
    assert deaths == MAX_CRASHES
    kills = [line for line in worker.log.lines("begin") if line.step == "kill"]
    assert len(kills) == MAX_CRASHES
    work = [line.run_id for line in worker.log.lines("begin") if line.step == "work"]
    assert len(work) > HEALTHY


async def test_i4_a_compensator_that_kills_its_worker_fails_for_good_and_the_others_undo_their_work(
    tmp_path: Path,
) -> None:
    async with processes.client(tmp_path) as app:
        run_id = (await app.start("regret")).run_id
        deaths = 0

        async def ended_or_died() -> bool:
            return worker.ended or (await app.status(run_id)).status == "failed"

        while (await app.status(run_id)).status != "failed":
            assert deaths < MOST_WORKERS
            async with processes.gated_worker(tmp_path, max_crashes=FEW_CRASHES) as worker:
                await eventually(ended_or_died)
                deaths += worker.ended
        with pytest.raises(RunFailedError) as caught:
            await app.result(run_id, timeout=PATIENCE)
        undone = [entry for entry in await app.journal(run_id) if entry.kind == "compensate"]
    assert deaths == FEW_CRASHES
    assert caught.value.error.node == "fail"
    assert [(entry.node, entry.status) for entry in undone] == [
        ("last", "completed"),
        ("kill", "failed"),
        ("first", "completed"),
    ]
    assert undone[1].error is not None
    assert undone[1].error.type == "CrashLimit"
    assert [line.step for line in HandlersLog(tmp_path).lines("undo")] == ["last", *["kill"] * FEW_CRASHES, "first"]
