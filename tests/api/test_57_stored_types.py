"""Stored values whose type has changed: no attempt, no failure; the run goes on when a worker comes that reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Branch, Context, Durable, PayloadError, RunFailedError, StoredValueError, Workflow, durable
from tests.api.runs import OnPostgres, OnSqlite
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from stepwell import RunSnapshot

    Stored = OnSqlite | OnPostgres


@pytest.fixture(params=["sqlite", "postgres"])
def stored(request: pytest.FixtureRequest, sqlite: OnSqlite) -> Stored:
    return sqlite if request.param == "sqlite" else OnPostgres()


@dataclass
class Old:
    id: int


@dataclass
class Wider:
    id: int
    note: str = "none"


@dataclass
class Other:
    number: int


def two_steps(input_type: Any, result_type: Any, calls: list[str]) -> Workflow[Any]:
    def first(ctx: Context[Any]) -> Any:
        calls.append(f"first {ctx.attempt}")
        return result_type(7)

    def second(ctx: Context[Any]) -> Any:
        calls.append(f"second {ctx.attempt}")
        return str(ctx.results["first"])

    return (
        durable("flow", input=input_type)
        .step("first", first, result=result_type)
        .wait_for_signal("go", "go")
        .step("second", second)
    )


async def parked(app: Durable, run_id: str) -> RunSnapshot:
    async def look() -> bool:
        return (await app.explain(run_id)).reason == "value_does_not_decode"

    await eventually(look)
    return await app.status(run_id)


async def began(stored: Stored, flow: Workflow[Any], value: object) -> str:
    """A run that waits for its signal, and has got it."""
    async with stored.open(flow) as app:
        run_id = (await app.start(flow, value)).run_id
        async with app.worker():
            await eventually(lambda: _awaits(app, run_id))
        await app.signal(run_id, "go")
    return run_id


async def _awaits(app: Durable, run_id: str) -> bool:
    return (await app.status(run_id)).awaiting_signal == "go"


async def test_an_input_that_does_not_decode_parks_its_run_until_a_worker_reads_it(stored: Stored) -> None:
    calls: list[str] = []
    run_id = await began(stored, two_steps(Old, Old, calls), Old(1))

    async with stored.open(two_steps(Other, Old, calls)) as app:
        async with app.worker():
            run = await parked(app, run_id)
        reason = await app.explain(run_id)
        entries = await app.journal(run_id)

    why = "input.number does not decode as Other: is missing; Other needs number"
    assert (run.damaged, run.input, run.status) == (why, {"id": 1}, "running")
    assert reason.reason == "value_does_not_decode"
    assert why in reason.sentence
    assert [entry.node for entry in entries] == ["first"]

    async with stored.open(two_steps(Wider, Old, calls)) as app, app.worker():
        results = await app.result(run_id, timeout=PATIENCE)
        ended = await app.status(run_id)

    assert results == {"first": Old(7), "go": None, "second": "Old(id=7)"}
    assert (ended.input, ended.damaged) == (Wider(1), None)
    assert calls == ["first 1", "second 1"]


async def test_a_result_that_does_not_decode_is_no_attempt_of_the_step_that_reads_it(stored: Stored) -> None:
    calls: list[str] = []
    run_id = await began(stored, two_steps(Old, Old, calls), Old(1))

    async with stored.open(two_steps(Old, Other, calls)) as app:
        async with app.worker():
            run = await parked(app, run_id)
        entries = await app.journal(run_id)
    assert run.damaged == "results.first.number does not decode as Other: is missing; Other needs number"
    assert run.results == {"first": {"id": 7}, "go": None}
    assert [(entry.node, entry.status) for entry in entries] == [("first", "completed"), ("go", "completed")]

    async with stored.open(two_steps(Old, Wider, calls)) as app, app.worker():
        assert (await app.result(run_id, timeout=PATIENCE))["second"] == "Wider(id=7, note='none')"
    assert calls == ["first 1", "second 1", "second 1"]


async def test_a_handler_may_do_without_a_value_that_does_not_decode(sqlite: OnSqlite) -> None:
    seen: list[str] = []

    def second(ctx: Context[Any]) -> str:
        with pytest.raises(StoredValueError) as caught:
            assert ctx.results["first"] is None
        assert not isinstance(caught.value, PayloadError)
        assert (caught.value.place, caught.value.type, caught.value.code) == (
            "results.first.number",
            "Other",
            "stored_value",
        )
        seen.append(caught.value.run_id)
        return "without"

    old = (
        durable("flow").step("first", lambda ctx: Old(1), result=Old).wait_for_signal("go", "go").step("second", second)
    )
    new = durable("flow").step("first", lambda ctx: 1, result=Other).wait_for_signal("go", "go").step("second", second)
    run_id = await began(sqlite, old, None)

    async with sqlite.open(new) as app, app.worker():
        await eventually(lambda: _has_ended(app, run_id))
        run = await app.status(run_id)
        with pytest.raises(StoredValueError, match=r"results\.first\.number does not decode as Other"):
            await app.result(run_id, timeout=PATIENCE)
    assert seen == [run_id]
    assert run.results == {"first": {"id": 1}, "go": None, "second": "without"}


async def _has_ended(app: Durable, run_id: str) -> bool:
    return (await app.status(run_id)).finished_at is not None


async def test_what_ended_beside_a_value_that_does_not_decode_is_kept(sqlite: OnSqlite) -> None:
    async def reads(ctx: Context[Any]) -> str:
        return str(ctx.results["first"])

    def flow(type_: Any) -> Workflow[Any]:
        made = durable("flow").step("first", lambda ctx: type_(1), result=type_).wait_for_signal("go", "go")
        return made.parallel("both", {"beside": Branch(lambda ctx: "kept"), "reads": reads})

    run_id = await began(sqlite, flow(Old), None)
    async with sqlite.open(flow(Other)) as app, app.worker():
        await parked(app, run_id)
    async with sqlite.open(flow(Wider)) as app, app.worker():
        results = await app.result(run_id, timeout=PATIENCE)
        entries = [entry.node for entry in await app.journal(run_id)]
    assert (results["reads"], results["beside"]) == ("Wider(id=1, note='none')", "kept")
    assert sorted(entries) == ["beside", "first", "go", "reads"]


async def test_a_compensator_that_cannot_read_a_value_parks_the_run_and_runs_later(sqlite: OnSqlite) -> None:
    undone: list[str] = []

    def flow(type_: Any) -> Workflow[Any]:
        def fail(ctx: Context[Any]) -> None:
            raise ValueError("no")

        def undo(ctx: Context[Any]) -> None:
            undone.append(str(ctx.results["first"]))

        made = durable("flow").step("first", lambda ctx: type_(1), result=type_, compensate=undo)
        return made.wait_for_signal("go", "go").step("fail", fail, max_retries=0)

    run_id = await began(sqlite, flow(Old), None)
    async with sqlite.open(flow(Other)) as app, app.worker():
        assert (await parked(app, run_id)).status == "compensating"
    async with sqlite.open(flow(Wider)) as app, app.worker():
        with pytest.raises(RunFailedError) as failed:
            await app.result(run_id, timeout=PATIENCE)
    assert failed.value.compensated == ("first",)
    assert undone == ["Wider(id=1, note='none')"]


async def test_the_input_of_a_child_is_checked_by_the_child(stored: Stored) -> None:
    def spent(ctx: Context[Any]) -> int:
        return int(ctx.input.id)

    child = durable("child", input=Old).step("spent", spent)
    mapped = durable("mapped").child_workflow("below", child, map_input=lambda ctx: {"id": 1})
    plain = durable("plain").child_workflow("below", child)
    right = durable("right", input=Old).child_workflow("below", child)
    async with stored.open(child, mapped, plain, right) as app, app.worker():
        for flow, message in (
            (mapped, "input.below: must be Old, got dict {'id': 1}"),
            (plain, "input.below: must be Old, got int 5"),
        ):
            run_id = (await app.start(flow.name, 5)).run_id
            with pytest.raises(RunFailedError) as failed:
                await app.result(run_id, timeout=PATIENCE)
            assert (failed.value.error.type, failed.value.error.message) == ("PayloadError", message)
        run_id = (await app.start(right, Old(3))).run_id
        assert await app.result(run_id, timeout=PATIENCE) == {"below": {"spent": 3}}
        assert len(await app.list(workflow="child")) == 1


async def test_the_results_of_a_child_have_none_where_its_own_child_was_skipped(stored: Stored) -> None:
    def ten(ctx: Context) -> Old:
        return Old(10)

    leaf = durable("leaf").step("ten", ten)
    middle = durable("middle").child_workflow("leaf", leaf, when=lambda _: False).step("ten", ten)

    def seen(ctx: Context) -> str:
        return repr(ctx.results["middle"])

    kept = await stored(durable("root").child_workflow("middle", middle).step("seen", seen), children=[middle, leaf])

    assert kept.results == {"middle": {"leaf": None, "ten": Old(10)}, "seen": repr({"leaf": None, "ten": Old(10)})}
