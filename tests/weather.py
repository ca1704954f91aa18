"""Runs in bad weather: handlers that count their calls, clients that persevere, and what must hold afterwards."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import asyncpg

from stepwell import Durable, StoreUnavailableError, durable
from tests.postgres import Server, with_schema
from tests.waiting import POLL_SECONDS, eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from stepwell import Context, ResumeResult, RunSnapshot, StartResult, Workflow

T = TypeVar("T")
PATIENCE = 60
"""Seconds for what takes a moment in fair weather."""


@cache
def own_server() -> Server:
    """A server that tests of this process may stop, as long as they start it again."""
    return Server()


def fresh_schema(dsn: str) -> str:
    """The URL of a store that nobody has used, on that server."""
    return with_schema(dsn, f"weather_{secrets.token_hex(6)}")


class Crossing:
    """Workflows whose handlers count their calls and give what no other call gives.

    `crossing`: first, a nap, a wait for the signal "word", last. `held`: first, work (waits for `let`), last.
    """

    def __init__(self) -> None:
        self.calls = Counter[tuple[str, str]]()
        self.seen: dict[str, Any] = {}
        self.let = asyncio.Event()

    def workflows(self) -> list[Workflow]:
        """Both, for one app."""
        return [
            durable("crossing")
            .step("first", self.step)
            .sleep("nap", 0.05)
            .wait_for_signal("word", "word")
            .step("last", self.step),
            durable("held").step("first", self.step).step("work", self.held).step("last", self.step),
        ]

    async def step(self, ctx: Context) -> str:
        """Counts, and notes what came before."""
        self.calls[ctx.run_id, ctx.step] += 1
        self.seen[ctx.run_id] = ctx.results
        return secrets.token_hex(4)

    async def held(self, ctx: Context) -> str:
        """The same, once it is let."""
        result = await self.step(ctx)
        await self.let.wait()
        return result

    def called(self, step: str | None = None) -> int:
        """How often handlers, of the step or of all, have begun."""
        return sum(times for (_, name), times in self.calls.items() if step in {None, name})

    async def reached(self, calls: int, step: str | None = None) -> None:
        """Waits for that many calls of the step, or of all."""
        await eventually(lambda: self.called(step) >= calls, within=PATIENCE)

    def repeated(self) -> dict[tuple[str, str], int]:
        """The calls that were made more than once."""
        return {call: times for call, times in self.calls.items() if times > 1}


async def persevering(call: Callable[[], Awaitable[T]], within: float = PATIENCE) -> T:
    """What a call gives that is repeated while the store is away."""
    async with asyncio.timeout(within):
        while True:
            try:
                return await call()
            except StoreUnavailableError:
                await asyncio.sleep(POLL_SECONDS)


async def start(app: Durable, workflow: str, key: str) -> StartResult:
    """Starts a run under its key, whatever the weather."""
    return await persevering(lambda: app.start(workflow, {"key": key}, key=key))


async def say(app: Durable, run_id: str, word: str) -> ResumeResult:
    """Sends the signal that `crossing` waits for, under a key of its own, whatever the weather."""
    return await persevering(lambda: app.signal(run_id, "word", word, key=word))


async def ended(app: Durable, run_ids: Sequence[str]) -> list[dict[str, Any]]:
    """The results of all runs, whatever the weather."""
    return await asyncio.gather(*(persevering(lambda one=one: app.result(one)) for one in run_ids))  # type: ignore[misc]  # a default argument holds the id


async def cross(app: Durable, name: str) -> str:
    """One client's run from its start to its end, whatever the weather; its id."""
    started = await start(app, "crossing", name)
    assert (await say(app, started.run_id, f"go {name}")).accepted
    await ended(app, [started.run_id])
    return started.run_id


async def fetch(url: str, sql: str, *given: object) -> list[asyncpg.Record]:
    """What the tests' own eyes see in the store's tables: `runs` and so on are those of the URL's schema."""
    parts = urlsplit(url)
    schema = dict(parse_qsl(parts.query))["schema"]
    dsn = parts._replace(query="").geturl()
    connection = await asyncpg.connect(dsn, server_settings={"search_path": schema})
    try:
        return await connection.fetch(sql, *given)
    finally:
        await connection.close()


async def owners(url: str) -> dict[str, tuple[str, int, int]]:
    """Of each run, who holds it, under which token, and after how many crashes."""
    rows = await fetch(url, "SELECT id::text, worker::text, token, crashes FROM runs")
    return {run_id: (worker, token, crashes) for run_id, worker, token, crashes in rows}


async def check(app: Durable, url: str, crossing: Crossing, run_ids: Sequence[str]) -> list[RunSnapshot]:
    """What holds of runs that came through: ended, each outcome once, no hole, each step saw what is journaled."""
    snapshots = [await persevering(lambda one=one: app.status(one)) for one in run_ids]  # type: ignore[misc]  # as in `ended`
    for snapshot in snapshots:
        run_id = snapshot.run_id
        assert snapshot.status == "completed", snapshot
        entries = await app.journal(run_id)
        assert {entry.status for entry in entries} == {"completed"}
        assert [(entry.node, entry.attempt) for entry in entries] == [(node, 1) for node in snapshot.results or {}]
        assert crossing.seen[run_id].items() <= (snapshot.results or {}).items()
    rows = await fetch(url, "SELECT run_id::text, array_agg(seq ORDER BY seq) FROM journal GROUP BY run_id")
    for run_id, places in rows:
        assert places == list(range(1, len(places) + 1)), run_id
    lengths = await fetch(url, "SELECT r.seq, (SELECT count(*) FROM journal WHERE run_id = r.id) FROM runs AS r")
    assert all(stored == counted for stored, counted in lengths)
    return snapshots
