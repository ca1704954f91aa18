"""Claims that take long: no timer is early by them, no wait is short of them, and no run is held back by them."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import pytest

from stepwell import Context, Durable, Workflow, durable
from tests.faulty import FaultyStore, faulty_app
from tests.moving_clock import SECOND, SteadyClock
from tests.waiting import eventually

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator

    from stepwell.store.records import Claimed

MINUTE = timedelta(minutes=1)
SLOW = 40
"""Seconds of a slow claim: less than the minute that is waited for, and twice as long is more."""
KINDS = ["sleep", "asked sleep", "timeout", "pause", "retry", "parallel"]


class Waiting:
    """A workflow that waits a minute at its first node, and what it did before and after."""

    def __init__(self, kind: str) -> None:
        self.calls = Counter[str]()
        retried = {"max_retries": 1, "retry_backoff": MINUTE}
        nodes = {
            "sleep": lambda new: new.sleep("wait", MINUTE),
            "asked sleep": lambda new: new.sleep("wait", lambda ctx: MINUTE),
            "timeout": lambda new: new.wait_for_signal("wait", "go", timeout=MINUTE, default=1),
            "pause": lambda new: new.loop("wait", self.turn, max_iterations=2, pause=MINUTE),
            "retry": lambda new: new.step("wait", self.fails_once, **retried),
            "parallel": lambda new: new.parallel("wait", {"a": self.fails_once, "b": self.works}, **retried),
        }
        self.workflow: Workflow = nodes[kind](durable("waits")).step("after", self.works)

    async def fails_once(self, ctx: Context) -> str:
        """Fails the first time."""
        self.calls[ctx.step] += 1
        if self.calls[ctx.step] == 1:
            raise ValueError("the first time")
        return ctx.step

    async def works(self, ctx: Context) -> str:
        """Works at once."""
        self.calls[ctx.step] += 1
        return ctx.step

    async def turn(self, value: object, ctx: Context) -> str:
        """An iteration."""
        return await self.works(ctx)


def slow_claims(faulty: FaultyStore, clock: SteadyClock, seconds: float, when: Literal["before", "after"]) -> None:
    """The next claim takes so long before the store looks at its clock, or all that get something do after it."""
    left = [seconds]

    async def slowly(claim: Any, *given: Any, **named: Any) -> Claimed:
        if when == "before" and left:
            clock.go_on(left.pop())
        claimed: Claimed = await claim(*given, **named)
        if when == "after" and claimed.leases:
            clock.go_on(seconds)
        return claimed

    faulty.replace("claim", slowly)


def connection_of(faulty: FaultyStore) -> sqlite3.Connection:
    """The app's own database."""
    connection: sqlite3.Connection = faulty._in_memory()
    return connection


@asynccontextmanager
async def opened(waiting: Waiting) -> AsyncIterator[tuple[Durable, FaultyStore, SteadyClock]]:
    """An app whose time stands still, and a run of the workflow."""
    clock = SteadyClock()
    app, faulty = faulty_app("sqlite://", [waiting.workflow], runtime=clock)
    async with app:
        await app.start(waiting.workflow)
        yield app, faulty, clock


async def parked_until(faulty: FaultyStore, *, owners: int = 1) -> int:
    """When a run that waits, after so many changes of its owner, is due."""

    async def waits() -> int | None:
        found = connection_of(faulty).execute("SELECT worker, token, wake_at FROM stepwell_runs").fetchone()
        worker, token, wake_at = found
        return wake_at if worker is None and token >= owners else None

    return await eventually(waits)


@pytest.mark.parametrize("kind", KINDS)
async def test_no_timer_is_over_before_the_store_says_so_however_long_a_claim_was_under_way(kind: str) -> None:
    waiting = Waiting(kind)
    async with opened(waiting) as (app, faulty, clock):
        async with app.worker():
            until = await parked_until(faulty)
        before = waiting.calls.copy()
        slow_claims(faulty, clock, SLOW, "before")
        connection_of(faulty).execute("UPDATE stepwell_runs SET due_at = 0")
        async with app.worker():
            assert await parked_until(faulty, owners=2) == until
        assert waiting.calls == before
        assert not await app.list(status="completed")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_wait_that_begins_after_a_slow_claim_lasts_its_whole_time(kind: str) -> None:
    waiting = Waiting(kind)
    async with opened(waiting) as (app, faulty, clock):
        slow_claims(faulty, clock, SLOW, "after")
        async with app.worker():
            assert await parked_until(faulty) >= clock.wall() + 60 * SECOND


@pytest.mark.parametrize("steps", ["steps", "compensators"])
async def test_a_run_that_was_claimed_is_called_once_at_least_however_long_the_claim_took(
    steps: str,
) -> None:
    """Others wait all the time: the second that a run may go on while they do begins with its first call."""
    waiting = Waiting("retry")

    async def fail(ctx: Context) -> None:
        raise ValueError("undo it")

    workflow = durable("many").step("a", waiting.works, compensate=waiting.works).step("b", waiting.works)
    if steps == "compensators":
        workflow = workflow.step("c", fail)
    clock = SteadyClock()
    app, faulty = faulty_app("sqlite://", [workflow], runtime=clock)
    async with app:
        await app.start_many(workflow, range(20))
        slow_claims(faulty, clock, SLOW, "after")
        async with app.worker(concurrency=1):

            async def ended() -> bool:
                wanted = "failed" if steps == "compensators" else "completed"
                return len(await app.list(status=wanted)) == 20

            await eventually(ended)
