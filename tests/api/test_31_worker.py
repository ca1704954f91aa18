"""`worker`: claims and advances runs until it is left; its limits, its queues, and what it leaves behind."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Context, Durable, DurableError, WorkflowNotRegisteredError, durable
from tests.api import running_fixtures
from tests.api.running_fixtures import (
    decline,
    echo,
    file_url,
    one,
    two,
    until_asleep,
    until_status,
)
from tests.gates import Gate, StubbornGate
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from stepwell import StartResult

url = running_fixtures.url


async def all_ended(app: Durable, started: list[StartResult]) -> list[Any]:
    return list(await asyncio.gather(*(app.result(each.run_id, timeout=PATIENCE) for each in started)))


class Crowd:
    """Handlers that pass only `size` at a time, and count how many were at work at once."""

    def __init__(self, size: int) -> None:
        self._async = asyncio.Barrier(size)
        self._plain = threading.Barrier(size, timeout=PATIENCE)
        self._lock = threading.Lock()
        self._inside = 0
        self.most = 0

    def _count(self, change: int) -> None:
        with self._lock:
            self._inside += change
            self.most = max(self.most, self._inside)

    async def handler(self, ctx: Context) -> None:
        """Wait for the others."""
        self._count(1)
        await self._async.wait()
        self._count(-1)

    def plain(self, ctx: Context) -> None:
        """Wait for the others, in a thread."""
        self._count(1)
        self._plain.wait()
        self._count(-1)


async def test_no_more_handlers_than_concurrency_are_at_work(url: str) -> None:
    crowd = Crowd(3)
    async with Durable(url, [durable("flow").step("work", crowd.handler)]) as app, app.worker(concurrency=3):
        await all_ended(app, await app.start_many("flow", list(range(30))))
    assert crowd.most == 3


async def test_each_entry_of_a_parallel_counts_as_a_handler(url: str) -> None:
    crowd = Crowd(2)
    wide = durable("wide").parallel("all", {f"entry-{number}": crowd.handler for number in range(8)})
    async with Durable(url, [wide]) as app, app.worker(concurrency=2):
        await all_ended(app, await app.start_many("wide", [1, 2]))
    assert crowd.most == 2


async def test_no_more_plain_handlers_than_threads_are_at_work(url: str) -> None:
    crowd = Crowd(3)
    async with Durable(url, [durable("flow").step("work", crowd.plain)]) as app, app.worker(concurrency=20, threads=3):
        await all_ended(app, await app.start_many("flow", list(range(30))))
    assert crowd.most == 3


async def test_async_handlers_run_on_the_event_loop_and_plain_ones_beside_it(url: str) -> None:
    threads: dict[str, threading.Thread] = {}

    async def on_the_loop(ctx: Context) -> None:
        threads["async"] = threading.current_thread()

    def beside(ctx: Context) -> None:
        threads["plain"] = threading.current_thread()

    flow = durable("flow").step("async", on_the_loop).step("plain", beside)
    async with Durable(url, [flow]) as app, app.worker():
        await all_ended(app, [await app.start("flow")])
    assert threads["async"] is threading.current_thread()
    assert threads["plain"] is not threading.current_thread()


async def test_an_awaitable_that_a_plain_handler_returns_is_awaited(url: str) -> None:
    def plain(ctx: Context) -> Any:
        return one(ctx)

    async with Durable(url, [durable("flow").step("value", plain)]) as app, app.worker():
        assert await all_ended(app, [await app.start("flow")]) == [{"value": 1}]


async def test_two_workers_share_the_runs_and_call_each_handler_once(url: str) -> None:
    crowd = Crowd(2)
    calls = Counter[str]()

    async def work(ctx: Context) -> None:
        calls[ctx.run_id] += 1
        if calls.total() <= 2:  # one of each worker; later on one may hold more than the other, which must not wait
            await crowd.handler(ctx)

    async with Durable(url, [durable("flow").step("work", work)]) as app:
        async with app.worker(concurrency=1), app.worker(concurrency=1):
            started = await app.start_many("flow", list(range(20)))
            await all_ended(app, started)
        workers = {(await app.journal(each.run_id))[0].worker for each in started}
    assert calls == Counter({each.run_id: 1 for each in started})
    assert len(workers) == 2


async def test_what_waits_holds_no_place(url: str) -> None:
    flows = [
        durable("asleep").sleep("rest", 3600),
        durable("waiting").wait_for_signal("wait", "go"),
        durable("retrying").step("charge", decline, retry_backoff=3600),
        durable("quick").step("value", one),
    ]
    async with Durable(url, flows) as app, app.worker(concurrency=1):
        for name in ("asleep", "waiting", "retrying"):
            await app.start_many(name, list(range(5)))
        assert await all_ended(app, [await app.start("quick")]) == [{"value": 1}]


async def test_leaving_lets_a_handler_end_and_keeps_its_result(url: str) -> None:
    gate = Gate("done")
    flow = durable("flow").step("work", gate.handler).step("value", two)
    async with Durable(url, [flow]) as app:
        worker = app.worker(grace=PATIENCE)
        await worker.__aenter__()
        started = await app.start("flow")
        await gate.entered()
        leaving = asyncio.create_task(worker.__aexit__(None, None, None))
        await asyncio.sleep(0)
        late = await app.start("flow")
        assert not leaving.done()
        gate.let()
        await leaving
        entries = await app.journal(started.run_id)
        assert [(entry.node, entry.status) for entry in entries][:1] == [("work", "completed")]
        assert (await app.status(late.run_id)).status == "pending"
        assert (gate.begun, gate.canceled) == (1, 0)
        async with app.worker():
            assert await app.result(started.run_id, timeout=PATIENCE) == {"work": "done", "value": 2}
            assert await app.result(late.run_id, timeout=PATIENCE) == {"work": "done", "value": 2}
    assert gate.begun == 2


async def test_leaving_cancels_what_outlasts_the_grace_and_gives_its_run_back(url: str) -> None:
    gate = Gate("done")
    async with Durable(url, [durable("flow").step("work", gate.handler, max_retries=0)]) as app:
        async with app.worker(grace=0.05):
            started = await app.start("flow")
            await gate.entered()
        assert gate.canceled == 1
        assert await app.journal(started.run_id) == []
        assert (await app.status(started.run_id)).status == "running"
        gate.let()
        async with app.worker():
            assert await app.result(started.run_id, timeout=PATIENCE) == {"work": "done"}
    assert gate.attempts == [1, 1]


async def test_leaving_does_not_wait_for_a_handler_that_swallows_its_cancellation(url: str) -> None:
    gate = StubbornGate()
    async with Durable(url, [durable("flow").step("work", gate.handler)]) as app:
        async with app.worker(grace=0):
            started = await app.start("flow")
            await gate.entered()
        assert await app.journal(started.run_id) == []
        gate.let()
        async with app.worker():
            assert await app.result(started.run_id, timeout=PATIENCE) == {"work": 2}


async def test_leaving_does_not_wait_for_a_plain_handler_that_blocks(url: str) -> None:
    begun, let = threading.Event(), threading.Event()
    calls = 0

    def blocking(ctx: Context) -> int:
        nonlocal calls
        calls += 1
        mine = calls
        begun.set()
        let.wait(PATIENCE)
        return mine

    async with Durable(url, [durable("flow").step("work", blocking)]) as app:
        async with app.worker(grace=0):
            started = await app.start("flow")
            await eventually(begun.is_set)
        assert await app.journal(started.run_id) == []
        let.set()
        async with app.worker():
            assert await app.result(started.run_id, timeout=PATIENCE) == {"work": 2}


async def test_an_error_in_the_body_leaves_the_worker_and_goes_on(url: str) -> None:
    async with Durable(url, [durable("flow").step("value", one)]) as app:
        with pytest.raises(ZeroDivisionError):
            async with app.worker():
                _ = 1 / 0
        started = await app.start("flow")
        assert (await app.status(started.run_id)).status == "pending"
        async with app.worker():
            assert await app.result(started.run_id, timeout=PATIENCE) == {"value": 1}


async def test_a_child_workflow_that_is_not_registered_is_refused_on_entering(url: str) -> None:
    parent = durable("parent").child_workflow("sub", "invoicing")
    async with Durable(url, [parent]) as app:
        with pytest.raises(WorkflowNotRegisteredError, match="invoicing"):
            async with app.worker():
                pytest.fail("entered")
        app.register(durable("invoicing").step("value", one))
        async with app.worker():
            assert await all_ended(app, [await app.start("parent")]) == [{"sub": {"value": 1}}]


async def test_a_worker_takes_only_runs_of_its_apps_queue(tmp_path: Path) -> None:
    def flow() -> Any:
        return durable("flow").step("say", echo)

    async with (
        Durable(file_url(tmp_path), [flow()], queue="red") as red,
        Durable(file_url(tmp_path), [flow()], queue="blue") as blue,
    ):
        for_red, for_blue = await red.start("flow", "red"), await blue.start("flow", "blue")
        async with blue.worker():
            assert await blue.result(for_blue.run_id, timeout=PATIENCE) == {"say": "blue"}
        assert (await blue.status(for_red.run_id)).status == "pending"
        async with red.worker():
            assert await blue.result(for_red.run_id, timeout=PATIENCE) == {"say": "red"}


async def test_a_worker_may_serve_several_queues(tmp_path: Path) -> None:
    queues = ["red", "blue", "green"]
    apps = [Durable(file_url(tmp_path), [durable("flow").step("say", echo)], queue=queue) for queue in queues]
    async with apps[0], apps[1], apps[2]:
        started = [await app.start("flow", queue) for app, queue in zip(apps, queues, strict=True)]
        async with apps[0].worker(queues=["green", "blue"]):
            assert await all_ended(apps[0], started[1:]) == [{"say": "blue"}, {"say": "green"}]
        assert (await apps[0].status(started[0].run_id)).status == "pending"


async def test_a_run_of_a_workflow_nobody_here_knows_waits_for_those_who_do(tmp_path: Path) -> None:
    rare, marker = durable("rare").step("value", one), durable("marker").step("value", two)
    async with Durable(file_url(tmp_path), [rare]) as knows, Durable(file_url(tmp_path), [marker]) as other:
        started = await knows.start("rare")
        async with other.worker():
            await all_ended(other, [await other.start("marker")])
            assert (await other.status(started.run_id)).status == "pending"
            async with knows.worker():
                assert await other.result(started.run_id, timeout=PATIENCE) == {"value": 1}


async def test_a_run_waits_for_its_own_version_of_the_workflow(tmp_path: Path) -> None:
    old = durable("flow").wait_for_signal("wait", "go").step("value", one)
    new = durable("flow").step("before", two).wait_for_signal("wait", "go").step("value", two)
    async with Durable(file_url(tmp_path), [old]) as app, app.worker():
        started = await app.start("flow")
        await until_status(app, started.run_id, "suspended")
    async with Durable(file_url(tmp_path), [new]) as app, app.worker():
        await app.signal(started.run_id, "go", "go")
        newer = await app.start("flow")
        await app.signal(newer.run_id, "go")
        assert await app.result(newer.run_id, timeout=PATIENCE) == {"before": 2, "wait": None, "value": 2}
        assert (await app.status(started.run_id)).results == {}
    again = durable("flow").wait_for_signal("wait", "go").step("value", one)
    async with Durable(file_url(tmp_path), [again]) as app, app.worker():
        assert await app.result(started.run_id, timeout=PATIENCE) == {"wait": "go", "value": 1}


async def test_a_bug_fix_or_another_policy_takes_on_the_runs_that_are_there(tmp_path: Path) -> None:
    broken = durable("flow").step("value", decline, retry_backoff=3600)
    async with Durable(file_url(tmp_path), [broken]) as app, app.worker():
        asleep = await app.start("flow", delay=0.5)
        failing = await app.start("flow")
        await until_asleep(app, failing.run_id)
    mended = durable("flow").step("value", one, max_retries=0, timeout=5, compensate=one)
    async with Durable(file_url(tmp_path), [mended]) as app, app.worker():
        assert await app.result(asleep.run_id, timeout=PATIENCE) == {"value": 1}


@pytest.mark.parametrize(
    "options", [{"concurrency": 0}, {"threads": 0}, {"grace": -1}, {"queues": []}], ids=lambda each: next(iter(each))
)
async def test_an_option_that_makes_no_sense_is_refused_by_its_name(options: dict[str, Any]) -> None:
    async with Durable("sqlite://", [durable("flow").step("value", one)]) as app:
        with pytest.raises((DurableError, ValueError), match=next(iter(options))):
            async with app.worker(**options):
                pytest.fail("entered")
