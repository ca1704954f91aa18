"""Workflows and queues beside each other in one worker: all get their turns, children stay in their parent's queue."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from stepwell import Durable, RunCanceledError, durable
from stepwell.runtime.system import SystemRuntime
from stepwell.runtime.tuning import Tuning
from tests.api import running_fixtures
from tests.api.running_fixtures import file_url
from tests.faulty import faulty_app
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from stepwell import Context, Workflow

url = running_fixtures.url


async def test_workflows_take_turns_however_many_runs_of_one_are_due(url: str) -> None:
    called: list[str] = []

    async def note(ctx: Context) -> None:
        called.append(ctx.run_id)

    names = ["first", "second", "third"]
    async with Durable(url, [durable(name).step("note", note) for name in names]) as app:
        started = {name: [await app.start(name) for _ in range(12)] for name in names}
        async with app.worker(concurrency=1):
            for runs in started.values():
                for run in runs:
                    await app.result(run.run_id, timeout=PATIENCE)
    begun = {name: min(called.index(run.run_id) for run in runs) for name, runs in started.items()}
    over = min(max(called.index(run.run_id) for run in runs) for runs in started.values())
    assert all(first < over for first in begun.values()), "one has ended before another has begun"


async def test_i8_a_child_goes_to_the_queue_of_its_parent_in_a_worker_of_several(tmp_path: Path) -> None:
    def flows() -> list[Workflow]:
        return [durable("child").wait_for_signal("wait", "go"), durable("parent").child_workflow("sub", "child")]

    red, blue = (Durable(file_url(tmp_path), flows(), queue=queue) for queue in ("red", "blue"))
    async with red, blue:
        started = await blue.start("parent")

        async def waiting_child() -> str | None:
            found = await red.list(workflow="child", status="suspended")
            return found[0].run_id if found else None

        async with red.worker(queues=["red", "blue"]):
            child = await eventually(waiting_child)
        await red.signal(child, "go")
        told = await red.explain(child)
        assert told.actions[0].command == "stepwell worker --queue blue"
        async with blue.worker():
            assert (await blue.result(started.run_id, timeout=PATIENCE)).keys() == {"sub"}


async def test_i9_whoever_waits_for_a_run_of_the_same_process_is_told_of_its_cancel() -> None:
    """Nothing else would: of a store in memory no changes are looked for."""
    async with Durable("sqlite://", [durable("flow").wait_for_signal("wait", "go")]) as app:
        started = await app.start("flow")
        waiting = asyncio.create_task(app.result(started.run_id, timeout=10))
        await eventually(lambda: app._waiters._waiting)
        for _ in range(10):
            await asyncio.sleep(0)
        await app.cancel(started.run_id)
        with pytest.raises(RunCanceledError):
            await waiting


async def test_i4_what_is_started_while_a_claim_is_answered_is_claimed_next() -> None:
    """The claim did not see it; a worker that forgets that it was told would see it when it looks again by itself."""

    async def done(ctx: Context) -> str:
        return "done"

    runtime = SystemRuntime(Tuning(longest_wait_seconds=1e6))
    app, faulty = faulty_app("sqlite://", [durable("flow").step("work", done)], runtime=runtime)
    claim = faulty.stop_after("claim")
    async with app, app.worker():
        await claim.reached()
        started = await app.start("flow")
        claim.release()
        assert await app.result(started.run_id, timeout=PATIENCE) == {"work": "done"}
