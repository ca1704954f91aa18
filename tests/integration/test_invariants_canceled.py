"""A canceled run writes no more, wherever it was: each test stops the store at the one moment that matters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stepwell import Context, durable
from tests.api.handlers import nothing
from tests.api.running_fixtures import file_url
from tests.faulty import faulty_app
from tests.gates import Gate
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from stepwell.store.records import Advance


async def fail(ctx: Context) -> None:
    raise ValueError("no")


def records(node: str, phase: str = "do") -> Callable[[str, Sequence[Advance]], bool]:
    """Matches the next batch with an entry of the node."""

    def matches(worker_id: str, advances: Sequence[Advance]) -> bool:
        return any((row.node, row.phase) == (node, phase) for one in advances for row in one.rows)

    return matches


@pytest.mark.parametrize("lean", [True, False])
async def test_i9_an_outcome_on_its_way_to_the_store_when_its_run_is_canceled_is_not_written(*, lean: bool) -> None:
    flow = durable("flow").step("work", nothing)
    if lean:
        flow.step("last", nothing)
    app, faulty = faulty_app("sqlite://", [flow])
    async with app:
        stop = faulty.stop_before("commit", records("work"))
        async with app.worker():
            run_id = (await app.start("flow")).run_id
            await stop.reached()
            await app.cancel(run_id)
            assert await stop.released() == ["lost"]
        assert await app.journal(run_id) == []
        assert (await app.status(run_id)).status == "canceled"


async def test_i9_a_compensation_stops_where_it_is_when_its_run_is_canceled() -> None:
    undone: list[str] = []

    async def undo(ctx: Context) -> None:
        undone.append(ctx.step)

    flow = durable("flow")
    for name in ("one", "two"):
        flow.step(name, nothing, compensate=undo)
    flow.step("fails", fail, max_retries=0)
    app, faulty = faulty_app("sqlite://", [flow])
    async with app:
        stop = faulty.stop_before("commit", records("two", "undo"))
        async with app.worker():
            run_id = (await app.start("flow")).run_id
            await stop.reached()
            before = await app.journal(run_id)
            await app.cancel(run_id)
            assert await stop.released() == ["lost"]
        assert await app.journal(run_id) == before
        assert [entry.node for entry in before] == ["one", "two", "fails"]
    assert undone == ["two"]


async def test_i9_a_grandchild_of_a_canceled_run_writes_no_more() -> None:
    flows = [
        durable("root").child_workflow("child", "middle"),
        durable("middle").child_workflow("child", "leaf"),
        durable("leaf").step("work", nothing),
    ]
    app, faulty = faulty_app("sqlite://", flows)
    async with app:
        stop = faulty.stop_before("commit", records("work"))
        async with app.worker():
            run_id = (await app.start("root")).run_id
            await stop.reached()
            await app.cancel(run_id)
            assert await stop.released() == ["lost"]
        runs = await app.list()
        assert [run.status for run in runs] == ["canceled"] * 3
        assert [await app.journal(run.run_id) for run in runs] == [[]] * 3


async def test_i9_a_canceled_run_is_never_claimed_again(tmp_path: Path) -> None:
    """Neither one that was due, nor one in a worker's hands when that leaves, nor when somebody recovers."""
    gate = Gate()
    app, faulty = faulty_app(file_url(tmp_path), [durable("flow").step("work", gate.handler)])
    async with app:
        async with app.worker():
            held = (await app.start("flow")).run_id
            await gate.entered()
            await app.cancel(held)
            gate.let()
        due = (await app.start("flow")).run_id
        await app.cancel(due)
        assert await app.recover() == 0
        async with app.worker():
            later = (await app.start("flow")).run_id
            await app.result(later, timeout=PATIENCE)
        assert [await app.journal(run_id) for run_id in (held, due)] == [[], []]
    assert [len(faulty.claims_of(run_id)) for run_id in (held, due, later)] == [1, 0, 1]
    assert gate.calls == {held: 1, later: 1}
