"""Sub-steps: what a handler runs by its context is journaled by itself, and never called again once it is."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import pytest

from stepwell import (
    Abort,
    AttemptEnded,
    AttemptOverError,
    Backoff,
    Context,
    DefinitionError,
    Durable,
    RunFailedError,
    Suspended,
    durable,
)
from tests.api import running_fixtures
from tests.api.running_fixtures import file_url, until_status
from tests.gates import Gate
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from stepwell import Entry, Workflow

url = running_fixtures.url
SOON = Backoff(initial=0.001, factor=1, maximum=0.001, jitter=0)


class Calls:
    """Functions that count their calls."""

    def __init__(self) -> None:
        self.seen = Counter[Any]()

    async def kept(self, what: Any) -> Any:
        self.seen[what] += 1
        return what

    def kept_plainly(self, what: Any) -> Any:
        self.seen[what] += 1
        return what


def kinds_of(entries: list[Entry]) -> list[tuple[str, str, str | None, int | None, str]]:
    """What the journal has, as far as it matters here."""
    return [(one.node, one.kind, one.name, one.iteration, one.status) for one in entries]


async def ended(url: str, flow: Workflow, *others: Workflow, **options: Any) -> tuple[Any, list[Entry]]:
    """The results of a run, or why it failed, and its journal."""
    async with Durable(url, [flow, *others], **options) as app, app.worker():
        run_id = (await app.start(flow)).run_id
        results: Any
        try:
            results = await app.result(run_id, timeout=PATIENCE)
        except RunFailedError as error:
            results = error
        return results, await app.journal(run_id)


async def test_the_next_attempt_is_given_what_was_journaled_and_calls_only_what_was_not(url: str) -> None:
    calls = Calls()

    async def work(ctx: Context) -> Any:
        first = await ctx.run("part", calls.kept, 1)
        second = await ctx.run("part", calls.kept_plainly, 2)
        if ctx.attempt == 1:
            raise ValueError("after two")
        third = await ctx.run("part", calls.kept, 3)
        if ctx.attempt == 2:
            raise ValueError("after three")
        return [first, second, third]

    results, entries = await ended(url, durable("flow").step("work", work, retry_backoff=SOON))
    assert results == {"work": [1, 2, 3]}
    assert calls.seen == {1: 1, 2: 1, 3: 1}
    assert kinds_of(entries) == [
        ("work", "sub", "part#1", None, "completed"),
        ("work", "sub", "part#2", None, "completed"),
        ("work", "step", None, None, "retrying"),
        ("work", "sub", "part#3", None, "completed"),
        ("work", "step", None, None, "retrying"),
        ("work", "step", None, None, "completed"),
    ]
    assert [entry.attempt for entry in entries] == [1, 1, 1, 2, 2, 3]
    assert [entry.result for entry in entries if entry.kind == "sub"] == [1, 2, 3]


async def test_in_memory_the_same_holds() -> None:
    calls = Calls()

    async def work(ctx: Context) -> Any:
        value = await ctx.run("part", calls.kept, 1)
        if ctx.attempt < 3:
            raise ValueError("again")
        return value

    def plain(ctx: Context) -> Any:
        value = ctx.run_blocking("part", calls.kept_plainly, 2)
        if ctx.attempt < 3:
            raise ValueError("again")
        return value

    flow = durable("flow").step("work", work, retry_backoff=SOON).step("plain", plain, retry_backoff=SOON)
    assert (await flow.run()).results == {"work": 1, "plain": 2}
    assert calls.seen == {1: 1, 2: 1}


async def test_i17_after_a_stop_amid_a_handler_the_next_worker_calls_only_what_was_not_journaled(url: str) -> None:
    calls, gate = Calls(), Gate("late", holds=1)

    async def work(ctx: Context) -> Any:
        first = await ctx.run("first", calls.kept, 1)
        return [first, await ctx.run("second", gate.handler, ctx)]

    async with Durable(url, [durable("flow").step("work", work).step("after", lambda _: "after")]) as app:
        run_id = (await app.start("flow")).run_id
        async with app.worker(grace=0):
            await gate.entered()
            assert kinds_of(await app.journal(run_id)) == [("work", "sub", "first#1", None, "completed")]
        async with app.worker():
            assert await app.result(run_id, timeout=PATIENCE) == {"work": [1, "late"], "after": "after"}
        assert calls.seen == {1: 1}
        assert [(one.name, one.attempt) for one in await app.journal(run_id)] == [
            ("first#1", 1),
            ("second#1", 1),
            (None, 1),
            (None, 1),
        ]


async def test_plain_handlers_and_compensators_have_sub_steps(url: str) -> None:
    calls = Calls()

    def work(ctx: Context) -> Any:
        value = ctx.run_blocking("part", calls.kept_plainly, "work")
        if ctx.attempt == 1:
            raise ValueError("again")
        return value

    def undo(ctx: Context) -> None:
        ctx.run_blocking("part", calls.kept_plainly, "undo plainly")
        if ctx.attempt == 1:
            raise ValueError("again")

    async def undo_async(ctx: Context) -> None:
        await ctx.run("part", calls.kept, "undo")
        await ctx.run("part", calls.kept, "undo more")
        if ctx.attempt == 1:
            raise ValueError("again")

    def fail(ctx: Context) -> None:
        raise Abort("no")

    flow = durable("flow").step("a", work, compensate=undo, retry_backoff=SOON)
    flow.step("b", work, compensate=undo_async, retry_backoff=SOON).step("c", fail)
    failed, entries = await ended(url, flow)
    assert failed.compensated == ("b", "a")
    assert calls.seen == {"work": 2, "undo plainly": 1, "undo": 1, "undo more": 1}
    assert kinds_of(entries)[-7:] == [
        ("b", "sub", "part#1", None, "completed"),
        ("b", "sub", "part#2", None, "completed"),
        ("b", "compensate", None, None, "retrying"),
        ("b", "compensate", None, None, "completed"),
        ("a", "sub", "part#1", None, "completed"),
        ("a", "compensate", None, None, "retrying"),
        ("a", "compensate", None, None, "completed"),
    ]


async def test_i17_entries_iterations_and_branches_have_their_own(url: str) -> None:
    calls = Calls()

    async def work(ctx: Context) -> Any:
        value = await ctx.run("part", calls.kept, f"{ctx.step} {ctx.iteration}")
        if ctx.attempt == 1:
            raise ValueError("again")
        return value

    async def round_(value: Any, ctx: Context) -> Any:
        return await work(ctx)

    flow = durable("flow").parallel("both", {"left": work, "right": work}, retry_backoff=SOON)
    flow.route("way", lambda _: "air", {"air": work, "sea": work}, retry_backoff=SOON)
    flow.loop("turns", round_, max_iterations=3, retry_backoff=SOON)
    results, entries = await ended(url, flow)
    assert set(calls.seen.values()) == {1}
    assert (results["left"], results["right"], results["way"]) == ("left None", "right None", "way None")
    assert sorted((one.node, one.iteration or 0, one.name) for one in entries if one.kind == "sub") == [
        ("left", 0, "part#1"),
        ("right", 0, "part#1"),
        ("turns", 1, "part#1"),
        ("turns", 2, "part#1"),
        ("turns", 3, "part#1"),
        ("way", 0, "part#1"),
    ]


async def test_a_step_that_is_entered_again_is_given_what_it_had_before_it_suspended_itself(url: str) -> None:
    calls = Calls()

    async def ask(ctx: Context) -> Any:
        first = await ctx.run("part", calls.kept, 1)
        if ctx.resume_data is None:
            return Suspended({"first": first})
        return [first, await ctx.run("part", calls.kept, ctx.resume_data)]

    async with Durable(url, [durable("flow").step("ask", ask)]) as app, app.worker():
        run_id = (await app.start("flow")).run_id
        await until_status(app, run_id, "suspended")
        await app.resume(run_id, "ask", "yes")
        assert await app.result(run_id, timeout=PATIENCE) == {"ask": [1, "yes"]}
    assert calls.seen == {1: 1, "yes": 1}


async def test_i17_two_at_once_need_keys(url: str) -> None:
    calls = Calls()

    async def both(ctx: Context, *keys: str | None) -> Any:
        return await asyncio.gather(*(ctx.run("part", calls.kept, at, key=key) for at, key in enumerate(keys)))

    async def keyed(ctx: Context) -> Any:
        values = await both(ctx, "a", "b", "c")
        if ctx.attempt == 1:
            raise ValueError("again")
        return values

    flow = durable("flow").step("keyed", keyed, retry_backoff=SOON)
    flow.step("same", lambda ctx: both(ctx, "a", "a"), max_retries=0)
    failed, entries = await ended(url, flow)
    assert [one.result for one in entries if one.node == "keyed" and one.kind == "step"][-1] == [0, 1, 2]
    assert (failed.error.node, failed.error.type) == ("same", "DefinitionError")
    assert "with the key 'a' are in flight" in failed.error.message

    failed, _ = await ended(url, durable("other").step("keyless", lambda ctx: both(ctx, None, None), max_retries=0))
    assert "Give each a key: ctx.run(name, function, …, key=…)." in failed.error.message
    assert {one.name for one in entries if one.kind == "sub" and one.node == "keyed"} == {"part~a", "part~b", "part~c"}


async def test_what_a_function_raises_is_the_handlers_and_is_not_journaled(url: str) -> None:
    seen: list[int] = []

    async def flaky(attempt: int) -> str:
        seen.append(attempt)
        if attempt == 1:
            raise ConnectionError("gone")
        return "there"

    async def work(ctx: Context) -> str:
        try:
            return await ctx.run("part", flaky, 1)
        except ConnectionError:
            return await ctx.run("other", flaky, 2)

    results, entries = await ended(url, durable("flow").step("work", work))
    assert (results, seen) == ({"work": "there"}, [1, 2])
    assert [one.name for one in entries] == ["other#1", None]


async def test_values_are_given_as_the_annotation_says_each_time(url: str) -> None:
    async def when(day: int) -> datetime:
        return datetime(2026, 1, day, tzinfo=UTC)

    def price() -> Decimal:
        return Decimal("9.90")

    async def work(ctx: Context) -> list[str]:
        seen = [await ctx.run("when", when, 7), await ctx.run("price", price)]
        if ctx.attempt == 1:
            raise ValueError("again")
        return [repr(one) for one in seen]

    results, _ = await ended(url, durable("flow").step("work", work, retry_backoff=SOON))
    assert results == {"work": [repr(datetime(2026, 1, 7, tzinfo=UTC)), "Decimal('9.90')"]}


async def test_a_value_that_cannot_be_journaled_names_its_place_and_is_not_tried_again(url: str) -> None:
    async def work(ctx: Context) -> Any:
        await ctx.run("fetch", lambda: 1)
        return await ctx.run("fetch", lambda: {"items": [{1, 2}]})

    failed, entries = await ended(url, durable("flow").step("page", work))
    assert failed.error.type == "PayloadError"
    assert failed.error.message.startswith("page/fetch#2.items[0]: ")
    assert [(one.name, one.status) for one in entries] == [("fetch#1", "completed"), (None, "failed")]


@pytest.mark.parametrize(("on_drift", "end"), [("warn", "completed"), ("ignore", "completed"), ("fail", "failed")])
async def test_other_arguments_than_were_journaled_are_told(
    url: str, on_drift: Literal["warn", "fail", "ignore"], end: str, caplog: pytest.LogCaptureFixture
) -> None:
    calls = Calls()

    async def work(ctx: Context) -> Any:
        same = await ctx.run("same", calls.kept, "same")
        value = await ctx.run("part", calls.kept, ctx.attempt)
        if ctx.attempt == 1:
            raise ValueError("again")
        return [same, value]

    flow = durable("flow").step("work", work, max_retries=1, retry_backoff=SOON)
    ending, _ = await ended(url, flow, on_drift=on_drift)
    words = "work/part#1 of run"
    assert sum(words in record.getMessage() and record.levelname == "WARNING" for record in caplog.records) >= (
        on_drift != "ignore"
    )
    if end == "completed":
        assert ending == {"work": ["same", 1]}
    else:
        assert ending.error.type == "DefinitionError"
        assert words in ending.error.message


def test_an_unknown_way_to_take_drift_is_refused() -> None:
    with pytest.raises(DefinitionError, match="on_drift must be one of warn, fail, ignore, got 'maybe'"):
        Durable("sqlite://", on_drift="maybe")  # type: ignore[arg-type]  # what is tested is that it is refused


async def test_i17_an_async_handler_whose_attempt_is_over_writes_nothing(url: str) -> None:
    calls, late = Calls(), list[BaseException]()

    async def linger(ctx: Context) -> None:
        try:
            while True:
                await asyncio.sleep(0.001)
                if calls.seen["over"]:
                    await ctx.run("part", calls.kept, "late")
                    return
        except AttemptOverError as error:
            late.append(error)

    async def work(ctx: Context) -> str:
        background.append(asyncio.ensure_future(linger(ctx)))
        return "done"

    background: list[asyncio.Future[None]] = []
    async with Durable(url, [durable("flow").step("work", work)]) as app, app.worker():
        run_id = (await app.start("flow")).run_id
        await app.result(run_id, timeout=PATIENCE)
        calls.seen["over"] += 1
        await eventually(lambda: late)
        await background[0]
        assert [one.name for one in await app.journal(run_id)] == [None]
    assert str(late[0]) == f"The attempt at work of run {run_id} is over; nothing was written."
    assert calls.seen == {"over": 1}


async def test_i17_a_plain_handler_whose_time_is_over_writes_nothing(tmp_path: Path) -> None:
    begun, over, called = threading.Event(), threading.Event(), Calls()

    def work(ctx: Context) -> str:
        if ctx.attempt > 1:
            begun.set()
            over.wait(PATIENCE)
            return "second"
        begun.wait(PATIENCE)
        try:
            ctx.run_blocking("part", called.kept_plainly, 1)
        except AttemptOverError as error:
            called.seen[type(error)] += 1
        over.set()
        return "first"

    flow = durable("flow").step("work", work, timeout=0.2, retry_backoff=SOON, max_retries=100)
    async with Durable(file_url(tmp_path), [flow]) as app, app.worker():
        run_id = (await app.start("flow")).run_id
        assert await app.result(run_id, timeout=PATIENCE) == {"work": "second"}
        assert called.seen == {AttemptOverError: 1}
        assert {one.name for one in await app.journal(run_id)} == {None}


async def test_i17_what_decides_about_a_node_has_no_sub_steps(url: str) -> None:
    async def asks(ctx: Context) -> Any:
        return await ctx.run("part", lambda: "a")

    entries = {"a": lambda ctx: 1}
    for flow in (
        durable("route").route("way", asks, entries, max_retries=0),
        durable("when").step("work", lambda ctx: 1, when=asks, max_retries=0),
        durable("loop").loop("work", lambda value, ctx: 1, max_iterations=1, map_input=asks, max_retries=0),
    ):
        failed, journaled = await ended(url, flow)
        assert "ctx.run is for handlers and compensators" in failed.error.message
        assert [one.kind for one in journaled if one.name is not None] == []


@pytest.mark.parametrize(
    ("name", "key", "words"),
    [("a b", None, "name"), ("part", "", "key"), ("part", "a\nb", "key"), ("x" * 101, None, "name")],
)
async def test_a_name_or_key_that_cannot_be_one_is_refused(name: str, key: str | None, words: str) -> None:
    async def work(ctx: Context) -> Any:
        return await ctx.run(name, lambda: 1, key=key)

    with pytest.raises(RunFailedError, match=words) as failed:
        await durable("flow").step("work", work, max_retries=0).run()
    assert failed.value.error.type == "DefinitionError"


async def test_observers_hear_of_each(url: str) -> None:
    heard: list[tuple[str, str, str | None]] = []

    class Watcher:
        def attempt_ended(self, event: AttemptEnded) -> None:
            heard.append((event.node, event.kind, event.name))

    async def work(ctx: Context) -> Any:
        return await ctx.run("part", lambda: 1)

    await ended(url, durable("flow").step("work", work), observers=[Watcher()])
    assert heard == [("work", "sub", "part#1"), ("work", "step", None)]


async def test_i17_a_sub_step_that_the_store_refuses_fails_its_node_and_compensators_still_have_theirs(
    tmp_path: Path,
) -> None:
    calls = Calls()

    async def undo(ctx: Context) -> None:
        await ctx.run("undo", calls.kept, "undone")

    async def work(ctx: Context) -> Any:
        return await ctx.run("bad", calls.kept, "bad")

    flow = durable("flow").step("a", lambda ctx: 1, compensate=undo).step("b", work, when=lambda _: True)
    async with Durable(file_url(tmp_path), [flow]) as app:
        with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as connection:
            connection.execute(
                "CREATE TRIGGER refuse BEFORE INSERT ON stepwell_journal WHEN new.name = 'bad#1' "
                "BEGIN SELECT RAISE(ABORT, 'no room for it'); END"
            )
        async with app.worker():
            run_id = (await app.start(flow)).run_id
            with pytest.raises(RunFailedError, match="no room for it") as failed:
                await app.result(run_id, timeout=PATIENCE)
    assert failed.value.compensated == ("a",)
    assert calls.seen == {"bad": 1, "undone": 1}
