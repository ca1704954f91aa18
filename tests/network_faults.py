"""Runs during outages: handlers that count their calls, clients that retry, and the checks afterwards."""

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
from tests.waiting import PATIENCE, POLL_SECONDS, eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from stepwell import Context, ResumeResult, RunSnapshot, StartResult, Workflow

T = TypeVar("T")


@cache
def own_server() -> Server:
    """A server that tests of this process may stop, if they start it again."""
    return Server()


def fresh_schema(dsn: str) -> str:
    """The URL of a new store on that server."""
    return with_schema(dsn, f"outage_{secrets.token_hex(6)}")


class CountedCalls:
    """Workflows whose handlers count their calls; each call returns a unique value.

    `counted`: first, a nap, a wait for the signal "word", last. `held`: first, work (waits for `release`), last.
    """

    def __init__(self) -> None:
        self.calls = Counter[tuple[str, str]]()
        self.seen: dict[str, Any] = {}
        self.release = asyncio.Event()

    def workflows(self) -> list[Workflow]:
        """Both, for one app."""
        return [
            durable("counted")
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
        """As `step`, but waits for `release`."""
        result = await self.step(ctx)
        await self.release.wait()
        return result

    def called(self, step: str | None = None) -> int:
        """How many calls of the step, or of all steps, have started."""
        return sum(times for (_, name), times in self.calls.items() if step in {None, name})

    async def reached(self, calls: int, step: str | None = None) -> None:
        """Waits for that many calls of the step, or of all steps."""
        await eventually(lambda: self.called(step) >= calls)

    def repeated(self) -> dict[tuple[str, str], int]:
        """The calls that were made more than once."""
        return {call: times for call, times in self.calls.items() if times > 1}


async def retrying_while_unavailable(call: Callable[[], Awaitable[T]], within: float = PATIENCE) -> T:
    """The result of a call that is repeated while the store is unavailable."""
    async with asyncio.timeout(within):
        while True:
            try:
                return await call()
            except StoreUnavailableError:
                await asyncio.sleep(POLL_SECONDS)


async def start(app: Durable, workflow: str, key: str) -> StartResult:
    """Starts a run with this key; retries while the store is unavailable."""
    return await retrying_while_unavailable(lambda: app.start(workflow, {"key": key}, key=key))


async def say(app: Durable, run_id: str, word: str) -> ResumeResult:
    """Sends the signal that `counted` waits for, with its own key; retries while the store is unavailable."""
    return await retrying_while_unavailable(lambda: app.signal(run_id, "word", word, key=word))


async def ended(app: Durable, run_ids: Sequence[str]) -> list[dict[str, Any]]:
    """The results of all runs; retries while the store is unavailable."""
    return await asyncio.gather(*(retrying_while_unavailable(lambda one=one: app.result(one)) for one in run_ids))  # type: ignore[misc]  # a default argument holds the id


async def cross(app: Durable, name: str) -> str:
    """Takes one client's run from its start to its end; returns its id."""
    started = await start(app, "counted", name)
    assert (await say(app, started.run_id, f"go {name}")).accepted
    await ended(app, [started.run_id])
    return started.run_id


async def fetch(url: str, sql: str, *given: object) -> list[asyncpg.Record]:
    """Reads the store's tables directly; `runs` and so on are those of the URL's schema."""
    parts = urlsplit(url)
    schema = dict(parse_qsl(parts.query))["schema"]
    dsn = parts._replace(query="").geturl()
    connection = await asyncpg.connect(dsn, server_settings={"search_path": schema})
    try:
        return await connection.fetch(sql, *given)
    finally:
        await connection.close()


async def owners(url: str) -> dict[str, tuple[str, int, int]]:
    """For each run: the worker that holds it, the token, and the number of crashes."""
    rows = await fetch(url, "SELECT id::text, worker::text, token, crashes FROM runs")
    return {run_id: (worker, token, crashes) for run_id, worker, token, crashes in rows}


async def check(app: Durable, url: str, counted: CountedCalls, run_ids: Sequence[str]) -> list[RunSnapshot]:
    """Checks completed runs: each outcome once, no gap in the journal, each step saw what is journaled."""
    snapshots = [await retrying_while_unavailable(lambda one=one: app.status(one)) for one in run_ids]  # type: ignore[misc]  # as in `ended`
    for snapshot in snapshots:
        run_id = snapshot.run_id
        assert snapshot.status == "completed", snapshot
        entries = await app.journal(run_id)
        assert {entry.status for entry in entries} == {"completed"}
        assert [(entry.node, entry.attempt) for entry in entries] == [(node, 1) for node in snapshot.results or {}]
        assert counted.seen[run_id].items() <= (snapshot.results or {}).items()
    rows = await fetch(url, "SELECT run_id::text, array_agg(seq ORDER BY seq) FROM journal GROUP BY run_id")
    for run_id, places in rows:
        assert places == list(range(1, len(places) + 1)), run_id
    lengths = await fetch(url, "SELECT r.seq, (SELECT count(*) FROM journal WHERE run_id = r.id) FROM runs AS r")
    assert all(stored == counted for stored, counted in lengths)
    return snapshots
