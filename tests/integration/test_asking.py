"""Handlers that ask their drive during an attempt: what is kept is stored before they go on, on every path.

Nothing public asks yet. A failed attempt stands here for the rows that sub-steps will have.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from stepwell import Backoff, Durable, RunCanceledError, RunFailedError, durable
from stepwell.core.journal import Work, new_row
from stepwell.engine.driving.channel import Kept
from stepwell.errors import AttemptOverError, Failure
from tests.faulty import faulty_app
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from stepwell import Context
    from stepwell.core.state import RunState
    from stepwell.store.records import Advance
    from stepwell.workflow.context import Facts

SOON = Backoff(initial=0.001, factor=1, maximum=0.001, jitter=0)


class Keep(NamedTuple):
    """Has a row kept; its answer is the word."""

    word: str

    def reply(self, state: RunState, facts: Facts, now: int) -> Kept:
        """The row of a failed attempt."""
        work: Work = getattr(facts, "work", None) or Work(facts.step)
        error = Failure(work.name, "Kept", self.word)
        return Kept(new_row(state, work, "retrying", facts.attempt, now, now, None, None, error, now), self.word)


async def kept(app: Durable, run_id: str) -> list[str]:
    """The words that the store has, in order."""
    return [entry.error.message for entry in await app.journal(run_id) if entry.error and entry.error.type == "Kept"]


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store of its own."""
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.mark.parametrize("first", [False, True], ids=["at once", "after a wait"])
async def test_i2_what_an_async_handler_asks_for_is_stored_before_it_goes_on(url: str, *, first: bool) -> None:
    seen: list[list[str]] = []

    async def work(ctx: Context) -> str:
        if first:
            await asyncio.sleep(0)
        words = [await ctx._ask(Keep(word)) for word in ("one", "two")]
        seen.append(await kept(app, ctx.run_id))
        return " ".join(words)

    async with Durable(url, [durable("flow").step("work", work).step("after", lambda _: "after")]) as app, app.worker():
        run_id = (await app.start("flow")).run_id
        assert await app.result(run_id, timeout=PATIENCE) == {"work": "one two", "after": "after"}
        assert seen == [["one", "two"]]
        assert [entry.node for entry in await app.journal(run_id) if entry.status == "completed"] == ["work", "after"]


async def test_entries_beside_each_other_share_their_commits(url: str) -> None:
    both = asyncio.Barrier(2)

    async def work(ctx: Context) -> Any:
        await both.wait()
        return await ctx._ask(Keep(ctx.step))

    async with Durable(url, [durable("flow").parallel("both", {"left": work, "right": work})]) as app, app.worker():
        run_id = (await app.start("flow")).run_id
        assert await app.result(run_id, timeout=PATIENCE) == {"left": "left", "right": "right"}
        assert sorted(await kept(app, run_id)) == ["left", "right"]


async def test_i2_what_a_plain_handler_asks_for_is_stored_before_it_goes_on(url: str) -> None:
    def work(ctx: Context) -> Any:
        return [ctx._ask_blocking(Keep(word)) for word in ("one", "two")]

    async with Durable(url, [durable("flow").step("work", work)]) as app, app.worker():
        run_id = (await app.start("flow")).run_id
        assert await app.result(run_id, timeout=PATIENCE) == {"work": ["one", "two"]}
        assert await kept(app, run_id) == ["one", "two"]


async def test_a_run_in_memory_answers_too() -> None:
    async def work(ctx: Context) -> Any:
        return await ctx._ask(Keep("one"))

    assert (await durable("flow").step("work", work).run()).results == {"work": "one"}


async def _step(ctx: Context, act: Callable[[str], Awaitable[None]], told: list[BaseException]) -> None:
    await act(ctx.run_id)
    try:
        await ctx._ask(Keep("lost"))
    except BaseException as error:
        told.append(error)
        raise


@pytest.mark.parametrize("path", ["flat", "beside"])
async def test_i9_a_handler_of_a_run_that_was_canceled_elsewhere_is_cancelled_and_nothing_is_kept(
    url: str, path: str
) -> None:
    told: list[BaseException] = []

    async def work(ctx: Context) -> None:
        await _step(ctx, other.cancel, told)

    flow = durable("flow")
    flow = flow.step("work", work) if path == "flat" else flow.parallel("both", {"left": work})
    async with Durable(url, [flow]) as app, Durable(url, [flow]) as other, app.worker() as worker:
        run_id = (await app.start("flow")).run_id
        with pytest.raises(RunCanceledError):
            await app.result(run_id, timeout=PATIENCE)
        assert await kept(app, run_id) == []
        assert worker.worker_id
    assert [type(error) for error in told] == [asyncio.CancelledError]


@pytest.mark.parametrize("path", ["flat", "plain"])
async def test_a_row_that_the_store_refuses_fails_the_node(url: str, path: str) -> None:
    async def work(ctx: Context) -> Any:
        return await ctx._ask(Keep("bad"))

    flow = durable("flow").step("work", work if path == "flat" else lambda ctx: ctx._ask_blocking(Keep("bad")))
    app, faulty = faulty_app(url, [flow])

    async def commit(own: Callable[..., Any], worker_id: str, advances: Sequence[Advance]) -> Any:
        if any(row.status == "retrying" for advance in advances for row in advance.rows):
            raise ValueError("no room for this")
        return await own(worker_id, advances)

    faulty.replace("commit", commit)
    async with app, app.worker():
        run_id = (await app.start("flow")).run_id
        with pytest.raises(RunFailedError, match="the store refused the outcome: no room for this") as raised:
            await app.result(run_id, timeout=PATIENCE)
        assert raised.value.error.type == "ValueError"
        assert await kept(app, run_id) == []


async def test_a_plain_handler_whose_time_is_over_asks_in_vain(url: str) -> None:
    retried, over, told = threading.Event(), threading.Event(), list[BaseException]()

    def work(ctx: Context) -> int:
        if ctx.attempt == 1:
            retried.wait(PATIENCE)
            try:
                ctx._ask_blocking(Keep("late"))
            except AttemptOverError as error:
                told.append(error)
            over.set()
        else:
            retried.set()
            over.wait(PATIENCE)
        return ctx.attempt

    flow = durable("flow").step("work", work, timeout=0.05, retry_backoff=SOON)
    async with Durable(url, [flow]) as app, app.worker():
        run_id = (await app.start("flow")).run_id
        assert (await app.result(run_id, timeout=PATIENCE))["work"] > 1
        assert await kept(app, run_id) == []
    assert [type(error) for error in told] == [AttemptOverError]
