"""What a worker's death by SIGKILL leaves to the next: no attempt is lost, nothing journaled is done again."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from stepwell import RunFailedError
from tests.programs import processes
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_crash_costs_no_attempt_and_keeps_the_idempotency_key(tmp_path: Path) -> None:
    async with processes.client(tmp_path) as app:
        started = await app.start("gated")
        for _ in range(3):
            async with processes.gated_worker(tmp_path) as worker:
                await worker.begun()
                worker.kill()
        processes.let(tmp_path)
        async with processes.gated_worker(tmp_path) as last:
            results = await app.result(started.run_id, timeout=PATIENCE)
        work = [line for line in last.log.lines("begin") if line.step == "work"]
        entries = await app.journal(started.run_id)
    assert len(work) == 4
    assert {line.attempt for line in work} == {1}
    assert {line.key for line in work} == {results["work"]["key"]}
    assert (results["work"]["attempt"], results["work"]["pid"]) == (1, last.pid)
    assert [(entry.node, entry.attempt, entry.status) for entry in entries] == [
        ("first", 1, "completed"),
        ("work", 1, "completed"),
        ("last", 1, "completed"),
    ]


async def test_what_was_journaled_before_a_crash_is_not_done_again(tmp_path: Path) -> None:
    async with processes.client(tmp_path) as app:
        started = await app.start("gated")
        async with processes.gated_worker(tmp_path) as first:
            await first.begun()
            before = await app.journal(started.run_id)
            first.kill()
        processes.let(tmp_path)
        async with processes.gated_worker(tmp_path) as second:
            results = await app.result(started.run_id, timeout=PATIENCE)
        assert (await app.journal(started.run_id))[:1] == before
    assert results["first"] == first.pid
    assert results["last"] == second.pid
    assert Counter(line.step for line in second.log.lines("begin")) == {"first": 1, "work": 2, "last": 1}


async def test_a_worker_beside_the_dead_one_takes_its_runs_at_once(tmp_path: Path) -> None:
    async with processes.client(tmp_path) as app, processes.gated_worker(tmp_path) as first:
        started = await app.start("gated")
        await first.begun()
        async with processes.gated_worker(tmp_path) as second:
            marker = await app.start("gated", delay=0.01)
            await eventually(lambda: len(first.log.lines("begin")) >= 4)
            first.kill()
            await second.begun(times=1)
            processes.let(tmp_path)
            results = [await app.result(each.run_id, timeout=PATIENCE) for each in (started, marker)]
    assert {each["work"]["pid"] for each in results} == {second.pid}


async def test_a_node_during_which_workers_died_max_crashes_times_fails_for_good(tmp_path: Path) -> None:
    processes.let(tmp_path)
    async with processes.client(tmp_path, max_crashes=4) as app:
        poison, healthy = await app.start("poison"), await app.start("gated")
        deaths = 0

        async def ended_or_died() -> bool:
            return worker.ended or (await app.status(poison.run_id)).status == "failed"

        while (await app.status(poison.run_id)).status != "failed" and deaths < 9:
            async with processes.gated_worker(tmp_path, max_crashes=4) as worker:
                await eventually(ended_or_died)
                deaths += worker.ended
        with pytest.raises(RunFailedError) as caught:
            await app.result(poison.run_id, timeout=PATIENCE)
        async with processes.gated_worker(tmp_path, max_crashes=4) as worker:
            assert (await app.result(healthy.run_id, timeout=PATIENCE))["work"]["attempt"] == 1
        entries = [(entry.node, entry.kind, entry.status) for entry in await app.journal(poison.run_id)]
    assert deaths == 4
    assert (caught.value.error.node, caught.value.error.type) == ("kill", "CrashLimit")
    assert list(caught.value.compensated) == ["first"]
    assert entries == [("first", "step", "completed"), ("kill", "step", "failed"), ("first", "compensate", "completed")]


async def test_i7_what_was_acknowledged_survives_the_death_of_who_started_it(tmp_path: Path) -> None:
    run_ids = processes.start_and_die(tmp_path, "gated", "nap")
    assert len(run_ids) == 2
    async with processes.client(tmp_path) as app:
        assert [(await app.status(run_id)).status for run_id in run_ids] == ["pending", "pending"]
        assert (await app.start("gated", key="key-gated")).run_id == run_ids[0]
        processes.let(tmp_path)
        async with app.worker():
            for run_id in run_ids:
                assert set(await app.result(run_id, timeout=PATIENCE)) >= {"first", "last"}
