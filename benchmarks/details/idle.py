"""What an idle fleet on PostgreSQL costs, and how soon it wakes: two worker processes, and a client in a third.

Every moment is read from the machine's steady clock, which all processes of a host share, the handlers' in the
handlers. Between two of them is a pause in which the fleet falls idle. What is counted is what the server counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import asyncpg

from benchmarks.child import call_in_child, child, input_ended, say
from benchmarks.database import connected, database, fresh_schema
from benchmarks.figures import Figure, Line, Note, quantile
from stepwell import Durable, durable
from tests.pooler import Pooler
from tests.postgres import VARIABLE, with_schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from stepwell import Context, Workflow

T = TypeVar("T")
TITLE = "idle: wake-up and cost on PostgreSQL"
WORKERS = 2
IDLE_WORKERS = 10
PAUSE_SECONDS = (0.2, 0.6)
SETTLE_SECONDS = 5.0
PATIENCE_SECONDS = 60
COUNTED = "pg_stat_statements"
MOMENTS = {
    "start": "start in another process: handler begins",
    "signal": "signal in another process: next handler",
    "child": "end of a child: its parent's next handler",
    "result": "end: `result` of another process returns",
}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured a round: `runs` one after the other, `seconds` of idling."""

    runs: int
    seconds: float
    rounds: int


TINY = Size(runs=1, seconds=0.5, rounds=1)
SHORT = Size(runs=60, seconds=20, rounds=1)
FULL = Size(runs=200, seconds=60, rounds=3)


def measure(size: Size) -> Iterator[Line]:
    """Milliseconds from a cause to its effect, with notifications and without; then what an idle fleet asks for."""
    ways = {"": False, ", without LISTEN": True}
    found: dict[tuple[str, str], list[list[float]]] = {(moment, way): [] for way in ways for moment in MOMENTS}
    costs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    settings = {"shared_preload_libraries": COUNTED} if VARIABLE not in os.environ else {}
    with database(**settings) as dsn:
        for _ in range(size.rounds):
            for way, pooled in ways.items():
                times = asyncio.run(_measured(dsn, _woken, size.runs, pooled=pooled))
                for moment, some in times.items():
                    found[moment, way].append(some)
                costs[way].append(asyncio.run(_measured(dsn, _cost, size.seconds, pooled=pooled)))
    for (moment, way), rounds in found.items():
        if way and moment == "start":
            yield Note("  the same without LISTEN, through a pooler:")
        yield Figure(MOMENTS[moment], [quantile(times, 0.5) for times in rounds], "ms", 1)
        yield Figure("  99th percentile", [quantile(times, 0.99) for times in rounds], "ms", 1)
    for way, spent in costs.items():
        for what in spent[0]:
            yield Figure(f"{IDLE_WORKERS} idle workers{way}", [cost[what] for cost in spent], what, 1)
    if "stmts/s" not in costs[""][0]:
        yield Note(f"the server has no {COUNTED}: statements within transactions are not counted")


def workflows() -> list[Workflow]:
    """A run that begins, waits for a signal, then for a child, and tells when it did what."""

    async def moment(ctx: Context) -> float:
        return time.monotonic()

    return [
        durable("born").step("ended", moment),
        durable("woken")
        .step("begun", moment)
        .wait_for_signal("wait", "go")
        .step("signalled", moment)
        .child_workflow("child", "born")
        .step("ended", moment),
    ]


async def work(url: str) -> None:
    """Is a worker until its input ends."""
    async with Durable(url, workflows()) as app, app.worker():
        say("ready")
        await input_ended()


async def idle(url: str) -> None:
    """Is ten workers, as of ten processes, until its input ends."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(IDLE_WORKERS):
            app = await stack.enter_async_context(Durable(url, workflows()))
            await stack.enter_async_context(app.worker())
        say("ready")
        await input_ended()


async def wake(url: str, runs: int) -> dict[str, list[float]]:
    """Milliseconds of each moment, one run after the other; the first is not counted."""
    times: dict[str, list[float]] = {moment: [] for moment in MOMENTS}
    async with Durable(url, workflows()) as app:
        for _ in range(1 + runs):
            await asyncio.sleep(random.uniform(*PAUSE_SECONDS))
            started_at = time.monotonic()
            run_id = (await app.start("woken")).run_id
            while (await app.status(run_id)).awaiting_signal is None:  # noqa: ASYNC110  another process makes it so
                await asyncio.sleep(PAUSE_SECONDS[0])
            await asyncio.sleep(random.uniform(*PAUSE_SECONDS))
            waiting = asyncio.create_task(app.result(run_id, timeout=PATIENCE_SECONDS))
            signalled_at = time.monotonic()
            await app.signal(run_id, "go")
            results = await waiting
            returned_at = time.monotonic()
            times["start"].append(results["begun"] - started_at)
            times["signal"].append(results["signalled"] - signalled_at)
            times["child"].append(results["ended"] - results["child"]["ended"])
            times["result"].append(returned_at - results["ended"])
    return {moment: [1000 * seconds for seconds in some[1:]] for moment, some in times.items()}


@contextlib.asynccontextmanager
async def _reached(dsn: str, schema: str, *, pooled: bool) -> AsyncIterator[str]:
    """The URL of the store, directly or through a pooler in transaction mode, which delivers no notification."""
    if not pooled:
        yield with_schema(dsn, schema)
        return
    port = urlsplit(dsn).port or 5432
    async with Pooler(port, size=4 * IDLE_WORKERS) as pooler:
        yield with_schema(dsn.replace(f":{port}/", f":{pooler.port}/"), schema) + "&pooled=true"


async def _measured(dsn: str, what: Callable[..., T], amount: float, *, pooled: bool) -> T:
    """What a function gives for the URL of a fresh schema; in a thread, since the pooler works on the event loop."""
    async with fresh_schema(dsn) as schema, _reached(dsn, schema, pooled=pooled) as url:
        return await asyncio.to_thread(what, url, dsn, amount)


def _woken(url: str, _: str, runs: int) -> dict[str, list[float]]:
    """Milliseconds of each moment, of a fleet that is idle before each."""
    with contextlib.ExitStack() as stack:
        for _worker in range(WORKERS):
            stack.enter_context(child("details.idle:work", url=url)).wait_for("ready")
        times: dict[str, list[float]] = call_in_child("details.idle:wake", url=url, runs=runs)
        return times


def _cost(url: str, dsn: str, seconds: float) -> dict[str, float]:
    """Transactions, and statements if the server counts them, a second of ten workers that have nothing to do."""
    with child("details.idle:idle", url=url) as fleet:
        fleet.wait_for("ready")
        time.sleep(min(SETTLE_SECONDS, seconds))
        before, began = asyncio.run(_counted(dsn)), time.monotonic()
        time.sleep(seconds)
        after, passed = asyncio.run(_counted(dsn)), time.monotonic() - began
    return {what: (after[what] - before[what]) / passed for what in before}


async def _counted(dsn: str) -> dict[str, int]:
    """What the server has counted so far in all."""
    async with connected(dsn) as connection:
        sql = "SELECT sum(xact_commit) FROM pg_stat_database WHERE datname = current_database()"
        counted = {"trans/s": int(await connection.fetchval(sql))}
        with contextlib.suppress(asyncpg.PostgresError):
            await connection.execute(f"CREATE EXTENSION IF NOT EXISTS {COUNTED}")
            ours = "query NOT LIKE 'BEGIN%' AND query NOT LIKE 'COMMIT%'"
            counted["stmts/s"] = int(await connection.fetchval(f"SELECT sum(calls) FROM {COUNTED} WHERE {ours}"))
    return counted
