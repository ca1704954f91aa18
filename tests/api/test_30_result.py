"""`result`: waits for the end of a run, wherever it is made to move."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from stepwell import Durable, Failure, RunCanceledError, RunFailedError, RunNotFoundError, durable
from tests.api import running_fixtures
from tests.api.running_fixtures import decline, echo, file_url, one, two, undo, until_status
from tests.gates import Gate
from tests.programs import processes
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from stepwell import Context

url = running_fixtures.url


async def test_the_results_of_all_nodes_come_back_when_the_run_ends(url: str) -> None:
    gate = Gate("done")
    async with Durable(url, [durable("flow").step("work", gate.handler).step("value", two)]) as app, app.worker():
        started = await app.start("flow")
        waiting = asyncio.create_task(app.result(started.run_id, timeout=PATIENCE))
        await gate.entered()
        assert not waiting.done()
        gate.let()
        assert await waiting == {"work": "done", "value": 2}


async def test_a_run_that_has_ended_gives_its_results_again_and_again(url: str) -> None:
    async with Durable(url, [durable("flow").step("say", echo)]) as app:
        async with app.worker():
            started = await app.start("flow", [1])
            first = await app.result(started.run_id, timeout=PATIENCE)
        first["say"].append(2)
        assert await app.result(started.run_id) == {"say": [1]}
        assert await app.result(started.run_id, timeout=0) == {"say": [1]}


async def test_many_may_wait_for_one_run(url: str) -> None:
    async with Durable(url, [durable("flow").step("value", one)]) as app:
        started = await app.start("flow")
        waiting = [asyncio.create_task(app.result(started.run_id, timeout=PATIENCE)) for _ in range(50)]
        async with app.worker():
            assert await asyncio.gather(*waiting) == [{"value": 1}] * 50


async def test_many_runs_may_be_waited_for_at_once(url: str) -> None:
    async with Durable(url, [durable("flow").step("say", echo)]) as app, app.worker():
        started = await app.start_many("flow", list(range(200)))
        results = await asyncio.gather(*(app.result(each.run_id, timeout=PATIENCE) for each in started))
    assert results == [{"say": number} for number in range(200)]


async def test_a_failed_run_raises_its_error_with_the_facts(url: str) -> None:
    flow = durable("flow").step("first", one, compensate=undo).step("charge", decline, max_retries=0)
    async with Durable(url, [flow]) as app, app.worker():
        started = await app.start("flow")
        with pytest.raises(RunFailedError) as caught:
            await app.result(started.run_id, timeout=PATIENCE)
    error = caught.value
    assert error.run_id == started.run_id
    assert isinstance(error.error, Failure)
    assert (error.error.node, error.error.type, error.error.message) == ("charge", "ValueError", "card declined")
    assert list(error.compensated) == ["first"]
    assert started.run_id in str(error)
    assert "card declined" in str(error)


async def test_the_error_comes_only_when_everything_is_undone(url: str) -> None:
    gate = Gate()
    flow = durable("flow").step("first", one, compensate=gate.handler).step("charge", decline, max_retries=0)
    async with Durable(url, [flow]) as app, app.worker():
        started = await app.start("flow")
        waiting = asyncio.create_task(app.result(started.run_id, timeout=PATIENCE))
        await gate.entered()
        assert not waiting.done()
        gate.let()
        with pytest.raises(RunFailedError):
            await waiting


async def test_a_canceled_run_raises_its_cancellation_with_its_id(url: str) -> None:
    async with Durable(url, [durable("flow").step("value", one)]) as app:
        started = await app.start("flow")
        await app.cancel(started.run_id)
        with pytest.raises(RunCanceledError) as caught:
            await app.result(started.run_id)
    assert caught.value.run_id == started.run_id


async def test_out_of_time_is_pythons_timeout_error_and_the_run_goes_on(url: str) -> None:
    gate = Gate("done")
    async with Durable(url, [durable("flow").step("work", gate.handler)]) as app, app.worker():
        started = await app.start("flow")
        await gate.entered()
        for timeout in (0, 0.05):
            with pytest.raises(TimeoutError):
                await app.result(started.run_id, timeout=timeout)
        gate.let()
        assert await app.result(started.run_id, timeout=PATIENCE) == {"work": "done"}
    assert (gate.begun, gate.canceled) == (1, 0)


async def test_whoever_stops_waiting_leaves_the_run_alone(url: str) -> None:
    gate = Gate("done")
    async with Durable(url, [durable("flow").step("work", gate.handler)]) as app, app.worker():
        started = await app.start("flow")
        waiting = asyncio.create_task(app.result(started.run_id))
        await gate.entered()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.let()
        assert await app.result(started.run_id, timeout=PATIENCE) == {"work": "done"}
    assert gate.canceled == 0


async def test_an_unknown_run_is_named_at_once(url: str) -> None:
    async with Durable(url) as app:
        with pytest.raises(RunNotFoundError, match="0197f0a0-0000-7000-8000-000000000000"):
            await app.result("0197f0a0-0000-7000-8000-000000000000")


async def test_a_run_can_be_waited_for_without_a_worker_in_the_app(tmp_path: Path) -> None:
    gate = Gate("done")
    flow = durable("flow").step("work", gate.handler)
    async with Durable(file_url(tmp_path), [flow]) as app, Durable(file_url(tmp_path)) as other, app.worker():
        started = await app.start("flow")
        waiting = asyncio.create_task(other.result(started.run_id, timeout=PATIENCE))
        await gate.entered()
        gate.let()
        assert await waiting == {"work": "done"}


async def test_a_run_can_be_waited_for_from_another_process_than_its_worker(tmp_path: Path) -> None:
    async with processes.client(tmp_path) as app, processes.gated_worker(tmp_path) as worker:
        started = await app.start("gated")
        waiting = asyncio.create_task(app.result(started.run_id, timeout=PATIENCE))
        await worker.begun()
        assert not waiting.done()
        processes.let(tmp_path)
        assert (await waiting)["work"]["attempt"] == 1


async def test_a_wait_that_began_before_any_worker_ends(url: str) -> None:
    async with Durable(url, [durable("flow").step("value", one)]) as app:
        started = await app.start("flow")
        waiting = asyncio.create_task(app.result(started.run_id, timeout=PATIENCE))
        await until_status(app, started.run_id, "pending")
        async with app.worker():
            assert await waiting == {"value": 1}


async def test_a_workflow_whose_nodes_are_all_skipped_has_results_of_none(url: str) -> None:
    flow = durable("flow").step("value", one, when=lambda ctx: False)
    async with Durable(url, [flow]) as app, app.worker():
        started = await app.start("flow")
        assert await app.result(started.run_id, timeout=PATIENCE) == {"value": None}


async def test_of_a_loop_that_failed_before_its_handler_was_called_result_and_status_tell_why(url: str) -> None:
    def asked(ctx: Context) -> None:
        raise ValueError("no first input")

    flow = durable("flow").loop("turns", lambda value, ctx: 1, max_iterations=2, map_input=asked, max_retries=0)
    async with Durable(url, [flow]) as app, app.worker():
        run_id = (await app.start("flow")).run_id
        with pytest.raises(RunFailedError, match="no first input"):
            await app.result(run_id, timeout=PATIENCE)
        snapshot = await app.status(run_id)
    assert (snapshot.status, snapshot.damaged, snapshot.results) == ("failed", None, {})
