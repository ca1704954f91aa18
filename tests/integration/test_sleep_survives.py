"""A sleeping run outlives every process that knew of it, and wakes when its time has come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.programs import processes
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from stepwell import RunSnapshot


async def snapshot_of(folder: Path, run_id: str) -> RunSnapshot:
    """The run as an app sees it that is opened for this alone."""
    async with processes.client(folder) as app:
        return await app.status(run_id)


async def put_to_sleep(folder: Path, name: str) -> RunSnapshot:
    """A run that sleeps, and whose starter and worker are both dead."""
    (run_id,) = processes.start_and_die(folder, name)
    async with processes.gated_worker(folder) as worker:

        async def asleep() -> RunSnapshot | None:
            snapshot = await snapshot_of(folder, run_id)
            return snapshot if snapshot.wake_at is not None else None

        sleeping = await eventually(asleep)
        worker.kill()
    return sleeping


async def test_a_run_asleep_for_an_hour_survives_the_death_of_every_process(tmp_path: Path) -> None:
    sleeping = await put_to_sleep(tmp_path, "asleep")
    assert (sleeping.status, sleeping.current_node) == ("running", "rest")
    assert await snapshot_of(tmp_path, sleeping.run_id) == sleeping
    async with processes.gated_worker(tmp_path) as worker, processes.client(tmp_path) as app:
        processes.let(tmp_path)
        marker = await app.start("gated")
        await app.result(marker.run_id, timeout=PATIENCE)
        assert await app.status(sleeping.run_id) == sleeping
        assert [entry.node for entry in await app.journal(sleeping.run_id)] == ["first"]
        assert await app.recover() == 0
        assert await app.status(sleeping.run_id) == sleeping
    begun = [line.step for line in worker.log.lines("begin") if line.run_id == sleeping.run_id]
    assert begun == ["first"]


async def test_a_run_whose_processes_all_died_in_its_sleep_wakes_when_its_time_has_come(tmp_path: Path) -> None:
    sleeping = await put_to_sleep(tmp_path, "nap")
    async with processes.gated_worker(tmp_path) as worker, processes.client(tmp_path) as app:
        await app.result(sleeping.run_id, timeout=PATIENCE)
        entries = await app.journal(sleeping.run_id)
    assert [(entry.node, entry.kind, entry.status) for entry in entries] == [
        ("first", "step", "completed"),
        ("rest", "sleep", "completed"),
        ("last", "step", "completed"),
    ]
    assert sleeping.wake_at is not None
    assert entries[1].finished_at >= sleeping.wake_at
    assert entries[2].started_at >= sleeping.wake_at
    begun = [line.step for line in worker.log.lines("begin") if line.run_id == sleeping.run_id]
    assert begun == ["first", "last"]
