"""`undo="attempted"`: what failed for good is undone, too, unless it was certainly never called."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Abort, Branch, Context, DefinitionError, Durable, RunFailedError, Suspended, durable
from stepwell.testing import Harness
from tests.api import running_fixtures
from tests.api.handlers import LineDownError, fail, nothing
from tests.api.running_fixtures import until_status
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from tests.api.runs import OnSqlite, Runner

url = running_fixtures.url


class Undo:
    """A compensator that remembers, in order, what it was called for, and by which keys that was known."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int | None, Any, str]] = []
        self.keys: list[tuple[str, ...]] = []

    async def __call__(self, ctx: Context) -> None:
        own = ctx.undoes_key or "none"
        self.seen.append((ctx.step, ctx.iteration, ctx.results.get(ctx.step, "nothing"), own.partition("/")[2]))
        self.keys.append(tuple(key.partition("/")[2] for key in ctx.undoes_keys))


async def test_what_failed_for_good_is_undone_first_without_a_result(runner: Runner) -> None:
    undo = Undo()
    order = durable("order").step("a", lambda ctx: 1, compensate=undo, undo="attempted")
    order.step("b", fail, compensate=undo, undo="attempted", max_retries=1, retry_backoff=0)
    outcome = await runner(order)
    assert undo.seen == [("b", None, None, "b"), ("a", None, 1, "a")]
    assert outcome.compensated == ["b", "a"]
    assert (outcome.failure.node, outcome.failure.type) == ("b", "LineDownError")


async def test_i5_each_kind_of_work_that_failed_is_undone(runner: Runner) -> None:
    undo = Undo()
    branch = Branch(fail, undo, undo="attempted")

    def second_fails(value: Any, ctx: Context) -> int:
        if ctx.iteration == 2:
            raise LineDownError
        return 1

    options: Any = {"max_retries": 0}
    loop = durable("a").loop("loop", second_fails, max_iterations=3, compensate=undo, undo="attempted", **options)
    await runner(loop)
    await runner(durable("b").route("way", lambda ctx: "left", {"left": branch}, **options))
    await runner(durable("c").parallel("all", {"one": branch, "two": nothing}, **options))
    assert undo.seen == [
        ("loop", 2, None, "loop/#2"),
        ("loop", 1, 1, "loop/#1"),
        ("way", None, None, "way"),
        ("one", None, None, "all/one"),
    ]


async def test_a_result_that_is_refused_and_an_attempt_that_timed_out_were_called(runner: Runner) -> None:
    undo = Undo()

    async def hangs(ctx: Context) -> None:
        await asyncio.Event().wait()

    for name, handler in (("refused", lambda ctx: {1, 2}), ("late", hangs)):
        order = durable(name).step(name, handler, compensate=undo, undo="attempted", max_retries=0, timeout=0.02)
        assert (await runner(order)).compensated == [name]


async def test_i5_what_was_refused_before_the_first_call_is_not_undone(runner: Runner) -> None:
    undo = Undo()
    options: Any = {"compensate": undo, "undo": "attempted", "max_retries": 1, "retry_backoff": 0.01}
    branch = Branch(nothing, undo, undo="attempted")
    retries: Any = {"max_retries": 1, "retry_backoff": 0.01}
    flows = [
        durable("a").step("asked", nothing, when=fail, **options),
        durable("b").loop("asked", lambda value, ctx: 1, max_iterations=2, when=fail, **options),
        durable("c").loop("mapped", lambda value, ctx: 1, max_iterations=2, map_input=fail, **options),
        durable("d").route("chosen", fail, {"left": branch}, **retries),
        durable("e").parallel("asked", {"left": branch}, when=fail, **retries),
    ]
    for flow in flows:
        assert (await runner(flow)).compensated == []
    assert undo.seen == []


async def test_i5_an_entry_that_waits_to_be_tried_again_when_another_fails_is_undone(sqlite: OnSqlite) -> None:
    undo, tried = Undo(), asyncio.Event()

    async def held_up(ctx: Context) -> None:
        tried.set()
        raise LineDownError("down")

    async def bad(ctx: Context) -> None:
        await tried.wait()
        await asyncio.sleep(0.05)
        raise Abort("no")

    entries: dict[str, Any] = {
        "waits": Branch(held_up, undo, undo="attempted"),
        "usual": Branch(held_up, undo),
        "bad": bad,
    }
    outcome = await sqlite(durable("order").parallel("all", entries, max_retries=3, retry_backoff=3600))
    assert (outcome.compensated, outcome.failure.node) == (["waits"], "bad")
    assert outcome.rows("waits") == [("step", "retrying", 1), ("step", "failed", 1), ("compensate", "completed", 1)]
    entry = next(one for one in outcome.journal if one.node == "waits" and one.status == "failed")
    assert entry.error is not None
    assert (entry.error.type, entry.error.message) == ("Abandoned", "it may have happened when bad failed")


async def test_i5_a_step_that_suspended_itself_is_known_by_the_key_of_each_entry(url: str) -> None:
    undo = Undo()

    def twice(ctx: Context) -> Any:
        if ctx.resume_data == "stop":
            raise Abort("stopped")
        return Suspended({"so": "far"})

    flow = durable("flow").step("ask", twice, compensate=undo, undo="attempted")
    async with Harness([flow], url=url) as harness:
        run_id = await harness.start(flow)
        await harness.resume(run_id, "ask", "again")
        await harness.resume(run_id, "ask", "stop")
        with pytest.raises(RunFailedError):
            await harness.result(run_id)
    assert undo.seen == [("ask", None, None, "ask/~2")]
    assert undo.keys == [("ask", "ask/~1", "ask/~2")]


async def test_a_child_is_known_by_the_id_of_its_run(url: str) -> None:
    seen: list[tuple[str, str | None]] = []

    def undo(ctx: Context) -> None:
        seen.append((ctx.step, ctx.undoes_key))

    good, bad = durable("good").step("work", nothing), durable("bad").step("work", fail, max_retries=0)
    parent = durable("parent").child_workflow("first", good, compensate=undo)
    parent.child_workflow("second", bad, compensate=undo, undo="attempted")
    async with Harness([good, bad, parent], url=url) as harness:
        run_id = await harness.start(parent)
        with pytest.raises(RunFailedError):
            await harness.run_until_end(run_id)
        first, second = (await harness.status(run_id)).children or ()
    assert seen == [("second", second.run_id), ("first", first.run_id)]


async def test_a_child_that_was_never_started_is_not_undone(url: str) -> None:
    undo = Undo()
    child = durable("child").step("work", nothing)
    parent = durable("parent").child_workflow("go", child, map_input=fail, compensate=undo, undo="attempted")
    async with Harness([child, parent], url=url) as harness:
        run_id = await harness.start(parent)
        with pytest.raises(RunFailedError):
            await harness.run_until_end(run_id)
    assert undo.seen == []


async def test_a_handler_has_nothing_to_undo(runner: Runner) -> None:
    seen: list[tuple[object, ...]] = []
    await runner(durable("order").step("a", lambda ctx: seen.append((ctx.undoes_key, ctx.undoes_keys))))
    assert seen == [(None, ())]


async def test_i5_a_plain_handler_whose_time_was_over_ends_before_it_is_undone(url: str) -> None:
    events: list[str] = []
    may_end = threading.Event()

    def slow(ctx: Context) -> None:
        may_end.wait(PATIENCE)
        events.append("handler ends")

    def undo(ctx: Context) -> None:
        events.append("undone")

    flow = durable("flow").step("slow", slow, compensate=undo, undo="attempted", max_retries=0, timeout=1)
    async with Durable(url, [flow]) as app, app.worker():
        run_id = (await app.start(flow)).run_id
        await until_status(app, run_id, "compensating")
        may_end.set()
        with pytest.raises(RunFailedError):
            await app.result(run_id, timeout=PATIENCE)
    assert events == ["handler ends", "undone"]


async def test_a_plain_handler_that_does_not_end_is_waited_for_as_long_as_it_may_take(
    runner: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    undo, may_end = Undo(), threading.Event()

    def stuck(ctx: Context) -> None:
        may_end.wait(PATIENCE)

    flow = durable("flow").step("stuck", stuck, compensate=undo, undo="attempted", max_retries=0, timeout=0.05)
    try:
        assert (await runner(flow)).compensated == ["stuck"]
    finally:
        may_end.set()
    assert "the handler of stuck still runs in its thread, after twice its time" in caplog.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"compensate": nothing, "undo": "always"}, 'undo must be "completed" or "attempted", got \'always\'.'),
        ({"undo": "attempted"}, 'undo="attempted" says what compensate undoes, so it needs a compensate.'),
    ],
)
def test_an_undo_that_is_not_known_or_has_no_compensator_is_refused(options: Any, said: str) -> None:
    flow, child = durable("flow"), durable("child")
    for build in (
        lambda: flow.step("a", nothing, **options),
        lambda: flow.loop("a", lambda value, ctx: 1, max_iterations=1, **options),
        lambda: flow.child_workflow("a", child, **options),
        lambda: Branch(nothing, **options),
    ):
        with pytest.raises(DefinitionError) as raised:
            build()
        assert said in str(raised.value)
