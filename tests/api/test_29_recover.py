"""`recover`: nothing to do in health, and harmless to whatever is in the middle of something."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell import Durable, durable
from tests.api import running_fixtures
from tests.api.running_fixtures import decline, one, until_asleep, until_status
from tests.gates import Gate
from tests.programs import processes
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

url = running_fixtures.url


async def test_an_empty_store_has_nothing_to_recover(url: str) -> None:
    async with Durable(url) as app:
        assert await app.recover() == 0


async def test_a_healthy_store_has_nothing_to_recover(url: str) -> None:
    gate = Gate()
    flows = [
        durable("asleep").sleep("rest", 3600),
        durable("waiting").wait_for_signal("wait", "go"),
        durable("retrying").step("charge", decline, retry_backoff=3600),
        durable("working").step("work", gate.handler),
        durable("done").step("value", one),
    ]
    async with Durable(url, flows) as app, app.worker():
        ids = {flow.name: (await app.start(flow)).run_id for flow in flows}
        await gate.entered()
        await until_asleep(app, ids["asleep"])
        await until_asleep(app, ids["retrying"])
        await until_status(app, ids["waiting"], "suspended")
        await app.result(ids["done"], timeout=PATIENCE)
        await app.start("done", delay=3600)
        before = [await app.status(run_id) for run_id in ids.values()]
        assert await app.recover() == 0
        assert [await app.status(run_id) for run_id in ids.values()] == before
        gate.let()
        assert await app.result(ids["working"], timeout=PATIENCE) == {"work": None}
    assert gate.begun == 1


async def test_runs_nobody_works_on_yet_are_due_already(url: str) -> None:
    async with Durable(url, [durable("flow").step("value", one)]) as app:
        await app.start_many("flow", [1, 2, 3])
        assert await app.recover() == 0


async def test_a_suspended_run_can_still_be_resumed_after_a_recover(url: str) -> None:
    async with Durable(url, [durable("flow").wait_for_signal("wait", "go")]) as app, app.worker():
        started = await app.start("flow")
        await until_status(app, started.run_id, "suspended")
        await app.recover()
        assert (await app.resume(started.run_id, "go", "now")).accepted
        assert await app.result(started.run_id, timeout=PATIENCE) == {"wait": "now"}


async def test_a_run_whose_worker_died_is_made_due_by_whoever_recovers(tmp_path: Path) -> None:
    async with processes.client(tmp_path) as app:
        async with processes.gated_worker(tmp_path) as worker:
            started = await app.start("gated")
            await worker.begun()
            worker.kill()
        made_due = 0

        async def recovered() -> bool:
            nonlocal made_due
            made_due += await app.recover()
            return made_due > 0

        await eventually(recovered)
        assert made_due == 1
        assert await app.recover() == 0
        assert (await app.status(started.run_id)).status == "running"
