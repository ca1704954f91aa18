"""Answers to what is suspended beside handlers that run: named once, accepted once, used once, through a crash too."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from stepwell import Context, Suspended, durable
from tests.api.running_fixtures import until_status, url
from tests.faulty import faulty_app
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell import Durable
    from stepwell.store.records import Advance

__all__ = ["url"]

RESULTS = {"ask": "yes", "do": "done", "close": "closed"}


class Review:
    """A parallel of an entry that asks, and two that end when they are told."""

    def __init__(self) -> None:
        self.opened, self.closing = asyncio.Event(), asyncio.Event()
        self.flow = durable("review").parallel("all", {"ask": self.ask, "do": self.do, "close": self.close})

    def ask(self, ctx: Context[Any]) -> Any:
        return ctx.resume_data or Suspended("?")

    async def do(self, ctx: Context[Any]) -> str:
        await self.opened.wait()
        return "done"

    async def close(self, ctx: Context[Any]) -> str:
        await self.closing.wait()
        return "closed"


def ends_do(worker_id: str, advances: Sequence[Advance]) -> bool:
    """A batch with the outcome of the entry that does something."""
    return any(row.item == "do" and row.n == 0 for one in advances for row in one.rows)


async def asks(app: Durable, run_id: str) -> bool:
    return (await app.status(run_id)).awaiting_signals == ("ask",)


async def test_i6_an_answer_that_comes_while_another_entry_is_committed_is_not_asked_for_again(url: str) -> None:
    review = Review()
    app, faulty = faulty_app(url, [review.flow])
    async with app:
        run_id = (await app.start("review")).run_id
        stop = faulty.stop_before("commit", ends_do)
        async with app.worker():
            await eventually(lambda: asks(app, run_id))
            review.opened.set()
            await stop.reached()
            assert (await app.resume(run_id, "ask", "yes")).accepted
            assert not (await app.resume(run_id, "ask", "no")).accepted
            assert await stop.released() == ["message"]
            review.closing.set()
            assert await app.result(run_id, timeout=PATIENCE) == RESULTS
        assert (await app.status(run_id)).unread_signals == {}


async def test_i6_a_worker_that_dies_between_a_suspension_and_its_answer_loses_neither(url: str) -> None:
    review = Review()
    app, faulty = faulty_app(url, [review.flow], lease=1)
    async with app:
        run_id = (await app.start("review")).run_id
        async with app.worker(grace=0):
            await eventually(lambda: asks(app, run_id))
        assert (await app.status(run_id)).status == "running"
        assert (await app.resume(run_id, "ask", "yes")).accepted
        assert not (await app.resume(run_id, "ask", "no")).accepted
        review.opened.set()
        review.closing.set()
        async with app.worker():
            assert await app.result(run_id, timeout=PATIENCE) == RESULTS
        rows = [(entry.node, entry.status) for entry in await app.journal(run_id)]
        assert sorted(rows) == [
            ("ask", "completed"),
            ("ask", "suspended"),
            ("close", "completed"),
            ("do", "completed"),
        ]
    assert faulty.answers


async def test_i6_a_cancel_beside_a_suspension_leaves_nothing_that_an_answer_could_wake(url: str) -> None:
    review = Review()
    app, _ = faulty_app(url, [review.flow])
    async with app:
        run_id = (await app.start("review")).run_id
        async with app.worker():
            await eventually(lambda: asks(app, run_id))
            await app.cancel(run_id)
            await until_status(app, run_id, "canceled")
            for deliver in (app.resume, app.signal):
                assert not (await deliver(run_id, "ask", "late")).accepted
        assert [entry.status for entry in await app.journal(run_id)] == ["suspended"]
