"""Handlers that block the loop, a thread, or will not be cancelled: they harm themselves, and no other worker's run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stepwell import Durable, durable
from tests.api.running_fixtures import file_url
from tests.gates import StubbornGate
from tests.programs import stubborn
from tests.programs.processes import WorkerProcess, stubborn_worker
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

LEASE_SECONDS = 2.0


def client(folder: Path, lease: float = LEASE_SECONDS) -> Durable:
    return Durable(file_url(folder), stubborn.workflows(folder), lease=lease)


def has_left(folder: Path, worker: WorkerProcess) -> bool:
    return (folder / f"left-{worker.pid}").exists()


async def enlisted(app: Durable) -> set[str]:
    return {row.worker_id for row in await app._store.workers()}


async def test_i3_a_blocked_event_loop_costs_its_worker_nothing_and_is_logged_with_its_stack(tmp_path: Path) -> None:
    async with (
        client(tmp_path) as app,
        stubborn_worker(tmp_path, lease=LEASE_SECONDS) as one,
        stubborn_worker(tmp_path, lease=LEASE_SECONDS) as other,
    ):

        async def both() -> set[str] | None:
            found = await enlisted(app)
            return found if len(found) == 2 else None

        before = await eventually(both)
        started = await app.start("blocks", 1.5 * LEASE_SECONDS)
        assert await app.result(started.run_id, timeout=PATIENCE) == {"block": 1}
        begun, ended = one.log.lines("begin"), one.log.lines("end")
        assert [line.run_id for line in begun] == [started.run_id]
        assert [line.pid for line in ended] == [begun[0].pid]
        assert begun[0].pid in {one.pid, other.pid}
        assert await enlisted(app) == before
        (entry,) = await app.journal(started.run_id)
        assert (entry.attempt, entry.status) == (1, "completed")
        complaints = one.complaints
    assert complaints.count("The event loop has been blocked") == 1
    assert "in block" in complaints
    assert "time.sleep(ctx.input)" in complaints
    assert "is dead" not in complaints


async def test_i4_an_event_loop_that_is_blocked_beyond_any_steps_time_loses_its_runs_to_others(tmp_path: Path) -> None:
    """The beat ends when the blocked loop has outlasted the longest time that a step of its runs may take."""
    options = {"lease": LEASE_SECONDS, "step_timeout": 1.5 * LEASE_SECONDS, "max_crashes": 2}
    async with (
        client(tmp_path) as app,
        stubborn_worker(tmp_path, **options) as one,
        stubborn_worker(tmp_path, **options) as other,
    ):
        started = await app.start("blocks", stubborn.FOREVER)
        await eventually(lambda: len(one.log.lines("begin")) == 2)
        assert {line.pid for line in one.log.lines("begin")} == {one.pid, other.pid}
        assert {line.run_id for line in one.log.lines("begin")} == {started.run_id}
        assert await app.journal(started.run_id) == []
        assert "is dead" in one.complaints


@pytest.mark.parametrize("workflow", ["swallows", "stuck"])
@pytest.mark.parametrize("grace", [0, 1])
async def test_a_worker_process_with_a_handler_that_will_not_end_leaves_and_gives_its_run_back(
    tmp_path: Path, workflow: str, grace: int
) -> None:
    async with client(tmp_path) as app:
        started = await app.start(workflow)
        async with stubborn_worker(tmp_path, grace=grace) as worker:
            await worker.begun({"swallows": "swallow", "stuck": "stick"}[workflow])
            assert len(await enlisted(app)) == 1
            await worker.stop()
            assert has_left(tmp_path, worker)
        assert await enlisted(app) == set()
        assert (await app.status(started.run_id)).status == "running"
        assert await app.journal(started.run_id) == []
        async with stubborn_worker(tmp_path) as next_worker:
            (again,) = await next_worker.begun({"swallows": "swallow", "stuck": "stick"}[workflow])
        assert (again.run_id, again.attempt) == (started.run_id, 1)


async def test_a_worker_leaves_a_handler_that_swallows_its_cancellation_and_writes_nothing_of_it(
    tmp_path: Path,
) -> None:
    gate = StubbornGate(holds=1)
    async with Durable(file_url(tmp_path), [durable("flow").step("work", gate.handler)]) as app:
        async with app.worker(grace=0) as worker:
            started = await app.start("flow")
            await gate.entered()
            old_id = worker.worker_id
        assert (gate.begun, gate.canceled) == (1, 1)
        assert old_id not in await enlisted(app)
        async with app.worker():
            assert await app.result(started.run_id, timeout=PATIENCE) == {"work": 2}
            gate.let(1)
            await app.result((await app.start("flow")).run_id, timeout=PATIENCE)
        (entry,) = await app.journal(started.run_id)
    assert (entry.result, entry.attempt) == (2, 1)
    assert entry.worker != old_id
