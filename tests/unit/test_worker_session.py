"""A worker's hold on its runs when one of them, or the worker itself, is beyond hope: the others go on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from stepwell import Durable, durable
from tests.api.handlers import nothing
from tests.faulty import FaultyStore, faulty_app
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

A_MINUTE = 60_000_000


def returned(faulty: FaultyStore) -> list[tuple[set[str], int]]:
    """The runs that were given back, and for how long."""
    return [(set(tokens), delay) for (_, tokens, delay), _ in faulty.answers_of("give_back")]


async def test_i4_a_run_whose_drive_cannot_be_built_waits_a_minute_and_the_others_of_its_claim_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app, faulty = faulty_app(
        "sqlite://", [durable("broken").step("work", nothing), durable("sound").step("work", nothing)]
    )
    async with app:
        broken, sound = await app.start("broken"), await app.start("sound")
        lane = await app._lanes.of("durable", app._registry.get_plan("broken"))
        plan_of = app._lanes.plan

        def plan(number: int) -> Any:
            if number == lane:
                raise LookupError("no plan for it")
            return plan_of(number)

        monkeypatch.setattr(app._lanes, "plan", plan)
        async with app.worker():
            assert await app.result(sound.run_id, timeout=PATIENCE) == {"work": None}
            await eventually(lambda: returned(faulty))
        assert (await app.status(broken.run_id)).status == "running"
        assert await app.journal(broken.run_id) == []
    assert returned(faulty) == [({broken.run_id}, A_MINUTE)]
    assert f"Run {broken.run_id} cannot be continued" in caplog.text
    assert "no plan for it" in caplog.text


async def test_i4_a_damaged_run_that_cannot_even_be_parked_waits_a_minute_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "store.db"
    app, faulty = faulty_app(f"sqlite:///{path}", [durable("flow").step("work", nothing)])

    async def park(_: Any, *__: Any) -> Any:
        raise ValueError("not even that")

    async with app:
        damaged = await app.start("flow")
        with closing(sqlite3.connect(path, timeout=PATIENCE)) as connection, connection:
            connection.execute("DELETE FROM stepwell_inputs")
        sound = await app.start("flow")
        faulty.replace("park_damaged", park)
        async with app.worker():
            assert await app.result(sound.run_id, timeout=PATIENCE) == {"work": None}
            await eventually(lambda: returned(faulty))
    assert returned(faulty) == [({damaged.run_id}, A_MINUTE)]
    assert faulty.verdicts_on(damaged.run_id) == []
    assert f"Run {damaged.run_id} cannot even be parked" in caplog.text
    assert "not even that" in caplog.text


async def test_i9_a_damaged_run_that_is_canceled_while_it_is_being_parked_stays_canceled(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    app, faulty = faulty_app(f"sqlite:///{path}", [durable("flow").step("work", nothing)])
    async with app, Durable(f"sqlite:///{path}") as other:
        damaged = await app.start("flow")
        with closing(sqlite3.connect(path, timeout=PATIENCE)) as connection, connection:
            connection.execute("UPDATE stepwell_inputs SET value = x'ff'")
        parking = faulty.stop_before("park_damaged")
        async with app.worker():
            await parking.reached()
            await other.cancel(damaged.run_id)
            assert await parking.released() == 0
            sound = await app.start("flow")
            assert await app.result(sound.run_id, timeout=PATIENCE) == {"work": None}
        assert {run.run_id: run.status for run in await other.list()}[damaged.run_id] == "canceled"


async def test_a_worker_on_a_store_in_memory_that_was_declared_dead_goes_on_under_a_new_id() -> None:
    """It has no beat to tell it, nor one to end: its next claim is how it finds out."""
    async with Durable("sqlite://", [durable("flow").step("work", nothing)]) as app, app.worker() as worker:
        old_id = worker.worker_id
        assert await app._store.expire(old_id, None) == 0
        started = await app.start("flow")
        assert await app.result(started.run_id, timeout=PATIENCE) == {"work": None}
        assert worker.worker_id != old_id
        assert [row.worker_id for row in await app._store.workers()] == [worker.worker_id]
