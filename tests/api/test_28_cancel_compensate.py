"""`cancel(compensate=True)`: what is in flight is canceled, then the run is undone, its live children first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Branch, Context, Durable, RunCanceledError, RunFailedError, RunNotFoundError, Suspended, durable
from stepwell.testing import Harness
from tests.api import running_fixtures
from tests.api.handlers import fail, nothing
from tests.api.running_fixtures import until_asleep, until_status
from tests.gates import Gate
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from stepwell import Workflow

url = running_fixtures.url
ATTEMPTED: Any = {"undo": "attempted"}


class Undo:
    """A compensator that remembers the names it was called for, in order."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def __call__(self, ctx: Context) -> None:
        self.seen.append(ctx.step)


async def canceled(app: Durable, run_id: str) -> RunCanceledError:
    """The error of the run that is being canceled, once it has ended."""
    with pytest.raises(RunCanceledError) as raised:
        await app.result(run_id, timeout=PATIENCE)
    return raised.value


async def test_an_unknown_run_is_named(url: str) -> None:
    async with Durable(url) as app:
        with pytest.raises(RunNotFoundError):
            await app.cancel("0197f0a0-0000-7000-8000-000000000000", compensate=True)


@pytest.mark.parametrize("undo", ["completed", "attempted"])
@pytest.mark.parametrize("form", ["step", "after a condition", "parallel", "route", "loop"])
async def test_i5_what_is_in_flight_is_canceled_and_counts_as_attempted(url: str, form: str, undo: Any) -> None:
    gate, seen = Gate(), Undo()
    flow = durable("flow").step("first", nothing, compensate=seen)
    match form:
        case "step" | "after a condition":
            when = None if form == "step" else lambda ctx: True
            flow.step("work", gate.handler, compensate=seen, undo=undo, when=when)
        case "parallel":
            flow.parallel("all", {"work": Branch(gate.handler, seen, undo=undo), "other": gate.handler})
        case "route":
            flow.route("work", lambda ctx: "way", {"way": Branch(gate.handler, seen, undo=undo)})
        case _:
            flow.loop("work", lambda value, ctx: gate.handler(ctx), max_iterations=3, compensate=seen, undo=undo)
    async with Durable(url, [flow]) as app, app.worker():
        run_id = (await app.start("flow")).run_id
        await gate.entered()
        await app.cancel(run_id, compensate=True)
        error = await canceled(app, run_id)
        snapshot = await app.status(run_id)
        journal = await app.journal(run_id)
    expected = ["work", "first"] if undo == "attempted" else ["first"]
    assert seen.seen == list(error.compensated) == list(snapshot.compensated) == expected
    assert (snapshot.status, snapshot.cancel_requested_at is not None) == ("canceled", True)
    assert gate.canceled == gate.begun
    failures = [(one.node, one.status, one.error and one.error.type) for one in journal if one.status == "failed"]
    assert failures == ([("work", "failed", "RunCanceled")] if undo == "attempted" else [])


async def test_an_async_handler_ends_before_the_first_compensator_begins(url: str) -> None:
    events: list[str] = []
    entered, may_end = asyncio.Event(), asyncio.Event()

    async def slow_to_stop(ctx: Context) -> str:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            events.append("canceled")
            await may_end.wait()
            events.append("ended")
            raise
        return "never"

    def undo(ctx: Context) -> None:
        events.append(f"undo {ctx.step}")

    flow = durable("flow").step("first", nothing, compensate=undo)
    flow.step("slow", slow_to_stop, compensate=undo, **ATTEMPTED)
    async with Durable(url, [flow]) as app, app.worker():
        run_id = (await app.start("flow")).run_id
        await asyncio.wait_for(entered.wait(), PATIENCE)
        await app.cancel(run_id, compensate=True)
        await eventually(lambda: events == ["canceled"])
        await app.cancel(run_id, compensate=True)
        assert (await app.status(run_id)).status == "running"
        may_end.set()
        await canceled(app, run_id)
    assert events == ["canceled", "ended", "undo slow", "undo first"]


async def waits(kind: str, undo: Undo) -> tuple[Workflow, ...]:
    """A workflow that has done something and then waits, with what it needs."""
    flow, child = durable("flow").step("first", nothing, compensate=undo), durable("child").step("work", nothing)
    match kind:
        case "sleep":
            flow.sleep("nap", 86_400)
        case "signal":
            flow.wait_for_signal("wait", "go")
        case "timed signal":
            flow.wait_for_signal("wait", "go", timeout=86_400)
        case "suspended":
            flow.step("asks", lambda ctx: Suspended(1), compensate=undo, undo="attempted")
        case "retry":
            flow.step("fails", fail, compensate=undo, undo="attempted", max_retries=3, retry_backoff=86_400)
        case _:
            flow.loop("polls", lambda value, ctx: 1, max_iterations=9, pause=86_400, compensate=undo)
    return flow, child


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("sleep", ["first"]),
        ("signal", ["first"]),
        ("timed signal", ["first"]),
        ("suspended", ["asks", "first"]),
        ("retry", ["fails", "first"]),
        ("pause", ["polls", "first"]),
    ],
)
async def test_a_run_that_waits_is_undone_at_once(url: str, kind: str, expected: list[str]) -> None:
    undo = Undo()
    async with Harness(await waits(kind, undo), url=url) as harness:
        run_id = await harness.start("flow")
        await harness.cancel(run_id, compensate=True)
        with pytest.raises(RunCanceledError) as raised:
            await harness.result(run_id)
    assert list(raised.value.compensated) == undo.seen == expected
    assert str(raised.value) == f"Run {run_id} was canceled. Undone: {', '.join(expected)}."


async def test_a_run_that_did_nothing_ends_with_nothing_undone(url: str) -> None:
    gate = Gate()
    flow = durable("flow").step("work", gate.handler, compensate=nothing, **ATTEMPTED)
    async with Durable(url, [flow]) as app:
        run_id = (await app.start("flow", delay=86_400)).run_id
        await app.cancel(run_id, compensate=True)
        waiting = await app.status(run_id)
        async with app.worker():
            error = await canceled(app, run_id)
        journal = await app.journal(run_id)
    assert (waiting.status, waiting.cancel_requested_at is not None) == ("pending", True)
    assert (error.compensated, journal, gate.begun) == ((), [], 0)


async def test_a_run_that_has_ended_or_compensates_already_does_not_change(url: str) -> None:
    undo = Gate()
    flow = durable("flow").step("first", nothing, compensate=undo.handler).step("last", fail, max_retries=0)
    done = durable("done").step("work", nothing)
    async with Durable(url, [flow, done]) as app, app.worker():
        ended = (await app.start(done)).run_id
        await app.result(ended, timeout=PATIENCE)
        before = await app.status(ended)
        await app.cancel(ended, compensate=True)
        assert await app.status(ended) == before
        run_id = (await app.start(flow)).run_id
        await undo.entered()
        await app.cancel(run_id, compensate=True)
        assert (await app.status(run_id)).cancel_requested_at is None
        undo.let()
        with pytest.raises(RunFailedError) as raised:
            await app.result(run_id, timeout=PATIENCE)
    assert (raised.value.compensated, undo.canceled) == (("first",), 0)


async def test_i9_a_plain_cancel_stops_it_where_it_is(url: str) -> None:
    undo = Gate()
    flow = durable("flow").step("first", nothing, compensate=nothing).step("second", nothing, compensate=undo.handler)
    flow.wait_for_signal("wait", "go")
    async with Durable(url, [flow]) as app, app.worker():
        run_id = (await app.start("flow")).run_id
        await until_status(app, run_id, "suspended")
        await app.cancel(run_id, compensate=True)
        await undo.entered()
        await app.cancel(run_id)
        error = await canceled(app, run_id)
        await eventually(lambda: undo.canceled == 1)
        assert [(one.node, one.kind) for one in await app.journal(run_id)] == [("first", "step"), ("second", "step")]
    assert error.compensated == ()


async def test_i5_live_descendants_go_first_the_deepest_before_those_above(url: str) -> None:
    undo, gate = Undo(), Gate()
    leaf = durable("leaf").step("leaf-a", nothing, compensate=undo)
    leaf.step("leaf-b", gate.handler, compensate=undo, **ATTEMPTED)
    middle = durable("middle").step("middle-a", nothing, compensate=undo)
    middle.child_workflow("middle-b", leaf, compensate=undo, **ATTEMPTED)
    root = durable("root").step("root-a", nothing, compensate=undo)
    root.child_workflow("root-b", middle, compensate=undo)
    async with Durable(url, [leaf, middle, root]) as app, app.worker():
        run_id = (await app.start("root")).run_id
        await gate.entered()
        await app.cancel(run_id, compensate=True)
        error = await canceled(app, run_id)
        (child,) = (await app.status(run_id)).children or ()
        (grandchild,) = (await app.status(child.run_id)).children or ()
        journal = await app.journal(run_id)
    assert undo.seen == ["leaf-b", "leaf-a", "middle-b", "middle-a", "root-a"]
    assert error.compensated == ("root-a",)
    assert (child.status, child.compensated) == ("canceled", ("middle-b", "middle-a"))
    assert (grandchild.status, grandchild.compensated) == ("canceled", ("leaf-b", "leaf-a"))
    assert [(one.node, one.status, one.error and one.error.type) for one in journal if one.kind == "child"] == [
        ("root-b", "failed", "ChildCanceled")
    ]


async def test_a_child_that_is_canceled_so_fails_its_parent(url: str) -> None:
    undo, gate = Undo(), Gate()
    child = durable("child").step("first", nothing, compensate=undo).step("work", gate.handler)
    parent = durable("parent").step("before", nothing, compensate=undo).child_workflow("go", child)
    async with Durable(url, [child, parent]) as app, app.worker():
        run_id = (await app.start("parent")).run_id
        await gate.entered()
        (started,) = (await app.status(run_id)).children or ()
        await app.cancel(started.run_id, compensate=True)
        with pytest.raises(RunFailedError) as raised:
            await app.result(run_id, timeout=PATIENCE)
    assert (raised.value.error.type, undo.seen) == ("ChildCanceled", ["first", "before"])


async def test_a_compensator_that_fails_does_not_keep_the_run_from_its_end(url: str) -> None:
    flow = durable("flow").step("first", nothing, compensate=fail, max_retries=0).sleep("nap", 86_400)
    async with Durable(url, [flow]) as app, app.worker():
        run_id = (await app.start("flow")).run_id
        await until_asleep(app, run_id)
        await app.cancel(run_id, compensate=True)
        error = await canceled(app, run_id)
    assert (error.compensated, error.failed_compensations) == ((), ("first",))
    assert str(error).endswith("was canceled. Not undone, since their compensators failed: first.")


async def test_it_is_told_why_the_run_is_not_canceled_yet(url: str) -> None:
    flow = durable("flow").step("first", nothing)
    async with Durable(url, [flow]) as app:
        run_id = (await app.start("flow")).run_id
        await app.cancel(run_id, compensate=True)
        without = await app.explain(run_id)
    assert without.reason == "due_no_worker"
    assert without.sentence.startswith("Its cancel was requested at ")
    gate = Gate()
    child = durable("child").step("first", nothing, compensate=gate.handler).wait_for_signal("wait", "go")
    parent = durable("parent").child_workflow("go", child)
    async with Durable(url, [child, parent]) as app, app.worker():
        run_id = (await app.start("parent")).run_id
        await eventually(lambda: _waits(app, run_id))
        await app.cancel(run_id, compensate=True)
        await gate.entered()
        waiting = await app.explain(run_id)
        gate.let()
        await canceled(app, run_id)
    assert (waiting.reason, waiting.brief) == ("cancel_requested", "to be canceled, child at go")
    assert "It waits at go for its child run " in waiting.sentence


async def test_a_run_that_is_being_undone_says_so_and_takes_no_answer(url: str) -> None:
    gate = Gate()
    flow = durable("flow").step("first", nothing, compensate=gate.handler).wait_for_signal("wait", "go")
    async with Durable(url, [flow]) as app, app.worker():
        run_id = (await app.start("flow")).run_id
        await eventually(lambda: _is_suspended(app, run_id))
        await app.cancel(run_id, compensate=True)
        await gate.entered()
        run = await app.status(run_id)
        answer = await app.resume(run_id, "go", 1)
        gate.let()
        await canceled(app, run_id)
    assert (run.status, run.awaiting_signals) == ("compensating", ())
    assert (answer.accepted, answer.status) == (False, "compensating")


async def _is_suspended(app: Durable, run_id: str) -> bool:
    return (await app.status(run_id)).status == "suspended"


async def _waits(app: Durable, run_id: str) -> bool:
    """Whether the child of the run waits for its signal."""
    children = (await app.status(run_id)).children or ()
    return any(child.awaiting_signal is not None for child in children)
