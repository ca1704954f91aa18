"""What a worker holds, and under which id, when answers cross: no run is forgotten or dropped for an old answer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sqlite3
from typing import TYPE_CHECKING, Any

from stepwell import Durable, durable
from tests.api.handlers import nothing
from tests.api.running_fixtures import file_url
from tests.faulty import faulty_app
from tests.gates import Gate, StubbornGate
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stepwell.store.records import Advance

LEASE_SECONDS = 1.0


async def test_i3_a_claim_under_a_declared_dead_id_that_is_answered_late_does_not_end_the_new_one(
    tmp_path: Path,
) -> None:
    app, faulty = faulty_app(file_url(tmp_path), [durable("flow").step("work", nothing)], lease=LEASE_SECONDS)
    async with app, Durable(file_url(tmp_path)) as other, app.worker() as worker:
        old_id = worker.worker_id
        claim = faulty.stop_before("claim")
        started = await app.start("flow")
        await claim.reached()
        assert await other._store.expire(old_id, None) == 0
        await eventually(lambda: worker.worker_id != old_id)
        new_id = worker.worker_id
        assert (await claim.released()).alive is False
        await app.result(started.run_id, timeout=PATIENCE)
        (entry,) = await app.journal(started.run_id)
        assert entry.worker == new_id
        assert worker.worker_id == new_id
        assert [row.worker_id for row in await other._store.workers()] == [new_id]
    assert len(faulty.claims_of(started.run_id)) == 1


async def test_i4_a_run_that_is_due_again_before_its_park_is_answered_is_driven_and_not_forgotten(
    tmp_path: Path,
) -> None:
    gate = Gate()

    def parks(worker_id: str, advances: Sequence[Advance]) -> bool:
        return any(one.release and not one.ended for one in advances)

    flow = durable("flow").sleep("rest", 0.01).step("work", gate.handler)
    app, faulty = faulty_app(file_url(tmp_path), [flow, durable("other").step("work", nothing)], lease=LEASE_SECONDS)
    async with app, app.worker() as worker:
        park = faulty.stop_after("commit", parks)
        started = await app.start("flow")
        await park.reached()
        await eventually(lambda: len(faulty.claims_of(started.run_id)) == 2)
        assert await park.released() == ["ok"]
        await gate.entered()
        await app.result((await app.start("other")).run_id, timeout=PATIENCE)
        assert worker._worker_session.held == 1
        gate.let()
        await app.result(started.run_id, timeout=PATIENCE)
    assert gate.attempts == [1]


async def test_a_run_that_is_canceled_before_its_drive_began_takes_no_room(tmp_path: Path) -> None:
    flow = durable("flow").step("work", nothing)
    async with Durable(file_url(tmp_path), [flow]) as app, app.worker(queues=["another"]) as worker:
        started = await app.start("flow")
        worker_session = worker._worker_session
        lane = await app._lanes.of("durable", app._registry.get_plan(flow))
        claimed = await app._store.claim(worker.worker_id, [lane], 1, 1)
        await worker_session.take(claimed, app._runtime.monotonic())
        assert worker_session.held == 1
        worker_session.cancel([started.run_id])
        await eventually(lambda: worker_session.held == 0)


async def test_a_drive_that_outlives_the_next_one_of_its_run_ends_in_peace(tmp_path: Path) -> None:
    """Its run was taken away and claimed again here; its handler ends last, after it swallowed its cancellation."""
    gate, problems = StubbornGate(holds=1), list[Any]()

    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    app = Durable(file_url(tmp_path), [durable("flow").step("work", gate.handler)], lease=LEASE_SECONDS)
    async with app, app.worker():
        started = await app.start("flow")
        await gate.entered()
        with contextlib.closing(sqlite3.connect(tmp_path / "store.db", timeout=PATIENCE)) as connection, connection:
            connection.execute("UPDATE stepwell_runs SET worker = NULL, token = token + 1, due_at = 0")
        assert await app.result(started.run_id, timeout=PATIENCE) == {"work": 2}
        gate.let(1)
        await app.result((await app.start("flow")).run_id, timeout=PATIENCE)
        assert len(await app.journal(started.run_id)) == 1
    gc.collect()
    assert problems == []
