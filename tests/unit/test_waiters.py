"""Several who wait for one run: each for itself, whatever becomes of the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Durable, durable
from stepwell.store.sqlite.reader import SqliteReader
from tests.gates import Gate
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from stepwell import Context


async def list_of_one(ctx: Context) -> list[int]:
    return [1]


async def test_i4_who_waits_for_a_run_still_gets_its_result_when_another_who_did_ran_out_of_time() -> None:
    gate = Gate("done")
    async with Durable("sqlite://", [durable("flow").step("work", gate.handler)]) as app, app.worker():
        started = await app.start("flow")
        patient = asyncio.create_task(app.result(started.run_id, timeout=PATIENCE))
        await gate.entered()
        with pytest.raises(TimeoutError):
            await app.result(started.run_id, timeout=0.01)
        gate.let()
        assert await patient == {"work": "done"}


@pytest.mark.parametrize("told_first", [True, False])
async def test_i4_who_is_cancelled_as_the_run_ends_keeps_no_other_from_its_result(*, told_first: bool) -> None:
    gate = Gate("done")
    async with Durable("sqlite://", [durable("flow").step("work", gate.handler)]) as app, app.worker():
        started = await app.start("flow")
        leaving, staying = (asyncio.create_task(app.result(started.run_id, timeout=PATIENCE)) for _ in range(2))
        await gate.entered()

        def leave(run_id: str, results: object) -> None:
            leaving.cancel()

        gate.let()
        app._events.on_ended.insert(1 if told_first else 0, leave)
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert await staying == {"work": "done"}


@pytest.mark.parametrize("handler", [lambda ctx: [1], list_of_one], ids=["in a thread", "on the event loop"])
async def test_the_results_of_a_run_that_is_completed_here_are_not_read_from_the_store(
    handler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(reader: SqliteReader, run_id: str) -> Any:
        raise AssertionError(f"run {run_id} was read")

    gate = Gate("done")
    flow = durable("flow").step("wait", gate.handler).step("work", handler)
    async with Durable("sqlite://", [flow]) as app, app.worker():
        monkeypatch.setattr(SqliteReader, "result", read)
        started = await app.start(flow)
        waiting = [asyncio.create_task(app.result(started.run_id, timeout=PATIENCE)) for _ in range(2)]
        await gate.entered()
        gate.let()
        one, other = [await each for each in waiting]
        assert one == other == {"wait": "done", "work": [1]}
        assert one["work"] is not other["work"]
