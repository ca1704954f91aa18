"""Code that cancels the engine's own tasks, or its own run, while plain steps are on the flat path."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Context, Durable, Observer, durable
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stepwell import RunsClaimed, Workflow
    from stepwell.workflow.policy import PolicyOptions


async def one(_ctx: Context) -> int:
    """A plain step."""
    return 1


def plain() -> Workflow:
    """Ten plain steps."""
    flow = durable("plain")
    for number in range(10):
        flow.step(f"step{number}", one)
    return flow


def canceling(wanted: Callable[[asyncio.Task[Any]], bool]) -> Workflow:
    """A run that cancels the first tasks that are wanted."""

    async def cancel(_ctx: Context) -> None:
        tasks: list[asyncio.Task[Any]] = []
        while not tasks:
            await asyncio.sleep(0)
            tasks = [task for task in asyncio.all_tasks() if wanted(task)]
        for task in tasks:
            task.cancel()

    return durable("canceling").step("cancel", cancel)


def in_state(task: asyncio.Task[Any], name: str, state: str) -> bool:
    coroutine: Any = task.get_coro()
    return task.get_name().startswith(name) and inspect.getcoroutinestate(coroutine) == state


def mixed() -> Workflow:
    """Nodes that the flat path leaves to a drive, and attempts beside each other."""

    async def brief(_ctx: Context) -> int:
        await asyncio.sleep(0)
        return 1

    fan = dict.fromkeys(("a", "b", "c"), brief)
    retry: PolicyOptions = {"max_retries": 100, "retry_backoff": 0.0}
    return durable("mixed").sleep("nap", 0.001).parallel("fan", fan, **retry).step("last", brief, **retry)


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("stepwell-steps", "CORO_CREATED"),
        ("stepwell-committer", "CORO_CREATED"),
        ("stepwell-committer", "CORO_SUSPENDED"),
    ],
)
async def test_i4_runs_go_on_when_other_code_cancels_what_drives_or_commits_them(
    tmp_path: Path, name: str, state: str
) -> None:
    flows = [plain(), canceling(lambda task: in_state(task, name, state))]
    async with Durable(f"sqlite:///{tmp_path / 'store.db'}", flows) as app, app.worker():
        first = (await app.start("canceling")).run_id
        while not await has_ended(app, first):
            for each in await app.start_many("plain", list(range(20))):
                await app.result(each.run_id, timeout=PATIENCE)


@pytest.mark.parametrize("state", ["CORO_CREATED", "CORO_SUSPENDED"])
@pytest.mark.parametrize("name", ["claim", "watch", "wakeup", "waiters", "run-", "give-back"])
@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_i4_runs_end_although_other_code_cancels_the_engines_tasks_again_and_again(
    tmp_path: Path, kind: str, name: str, state: str
) -> None:
    """Six tasks of that name in that state, in one turn of the loop after the other, while runs are on their way."""
    url = "sqlite://" if kind == "memory" else f"sqlite:///{tmp_path / 'store.db'}"
    canceled = 0

    async def cancel() -> None:
        nonlocal canceled
        while canceled < 6:
            for task in asyncio.all_tasks():
                if in_state(task, f"stepwell-{name}", state):
                    task.cancel()
                    canceled += 1
            await asyncio.sleep(0)

    async with Durable(url, [mixed()], lease=0.6) as app, app.worker():
        canceler = asyncio.create_task(cancel())
        for _ in range(5):
            for each in await app.start_many("mixed", [None] * 4):
                await app.result(each.run_id, timeout=PATIENCE)
        canceler.cancel()
    assert canceled or (kind, name) not in {("file", "run-"), ("memory", "run-")}


async def test_a_run_that_its_own_handler_cancels_is_let_go_of_once() -> None:
    async def cancel(ctx: Context) -> None:
        await app.cancel(ctx.run_id)

    flow = durable("flow").step("cancel", cancel).sleep("nap", 0.01).step("last", one)
    async with Durable("sqlite://", [flow]) as app, app.worker(concurrency=2) as worker:
        started = await app.start_many("flow", [None] * 20)
        for each in started:
            await eventually(partial(has_ended, app, each.run_id))
        room = worker._worker_session.room
        await eventually(lambda: room.runs == 0)
        assert room.size == 0


async def has_ended(app: Durable, run_id: str) -> bool:
    run = await app.status(run_id)
    return run.status in {"canceled", "completed"}


class Claims(Observer):
    """Counts the claims of each run."""

    def __init__(self) -> None:
        self.of_run: dict[str, int] = {}

    def claimed(self, event: RunsClaimed) -> None:
        for run_id in event.run_ids:
            self.of_run[run_id] = self.of_run.get(run_id, 0) + 1


async def test_a_run_that_waited_for_a_slot_makes_its_call(tmp_path: Path) -> None:
    """Each claim gives one call at least, however long the run waited for the slot."""
    calls: dict[int, int] = {}

    async def work(ctx: Context) -> None:
        calls[ctx.input] = calls.get(ctx.input, 0) + 1
        await asyncio.sleep(1.1)

    flow, claims = durable("flow"), Claims()
    for number in range(3):
        flow.step(f"step{number}", work)
    async with Durable(f"sqlite:///{tmp_path / 'store.db'}", [flow], observers=[claims]) as app:
        ids = {(await app.start("flow", number)).run_id: number for number in range(6)}
        async with app.worker(concurrency=2, grace=0):
            await eventually(lambda: len(calls) == 6)
        assert all(claims.of_run[run_id] <= calls[number] + 1 for run_id, number in ids.items())
