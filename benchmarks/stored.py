"""Whether a worker on PostgreSQL drains and claims as fast beside many parked and finished runs as on empty tables.

The stored runs are written by set-based SQL into the very lane that is drained: each finished one with its input and
three journal rows; the parked ones wait for a signal or sleep. Then VACUUM and ANALYZE, as autovacuum would in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import drain
from benchmarks.child import call_in_child
from benchmarks.database import connected, database, fresh_schema
from benchmarks.figures import Figure, Line, quantile, ratios
from stepwell import Durable
from stepwell.runtime.system import SystemRuntime
from stepwell.store.postgres.store import PostgresStore
from stepwell.store.protocol import Definition, Lane, NewRun
from tests.postgres import with_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLE = "stored: PostgreSQL beside many stored runs"
SEED_AT_ONCE = 50_000
SEED = """
WITH made AS (
    INSERT INTO {0}.runs (id, lane, workflow, status, position, token, seq, mail, crashes, due_at, wake_at, awaiting,
        parked_at, created_at, updated_at, finished_at)
    SELECT (lpad(to_hex(1600000000000 + g), 12, '0') || '7' || substr(md5(g::text), 1, 3) || '8'
            || substr(md5(g::text), 4, 15))::uuid, 1, 'drain',
        CASE WHEN g % 11 > 0 THEN 'completed' WHEN g % 2 > 0 THEN 'suspended' ELSE 'running' END, 3, 1, 3, 0, 0,
        CASE WHEN g % 22 = 0 THEN 4000000000000000 + g END, CASE WHEN g % 22 = 0 THEN 4000000000000000 + g END,
        CASE WHEN g % 22 = 11 THEN 'answer' END, CASE WHEN g % 11 = 0 THEN g END, g, g,
        CASE WHEN g % 11 > 0 THEN g END
    FROM generate_series($1::integer, $2::integer) AS g
    RETURNING id, created_at
),
fed AS (INSERT INTO {0}.inputs SELECT id, '{{"number":1}}' FROM made)
INSERT INTO {0}.journal (run_id, started_at, finished_at, seq, node, worker, value)
SELECT id, created_at, created_at, seq, seq, 1, '1' FROM made, generate_series(1, 3) AS seq ORDER BY id, seq
"""
LEASES_A_CLAIM = 32


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured a round: `runs` drained, `claims` made, beside `stored` runs, one in eleven parked."""

    runs: int
    claims: int
    stored: int
    rounds: int


TINY = Size(runs=20, claims=5, stored=1_100, rounds=1)
SHORT = Size(runs=2_000, claims=50, stored=220_000, rounds=3)
FULL = Size(runs=4_000, claims=200, stored=1_100_000, rounds=7)


def measure(size: Size) -> Iterator[Line]:
    """Steps per second and milliseconds a claim, in a full schema and in an empty one, by turns."""
    with database() as dsn:
        speeds, claims = asyncio.run(_measure(dsn, size))
    parked = size.stored // 11
    yield Figure(f"{size.stored - parked:,} finished, {parked:,} parked", speeds["full"], "steps/s")
    yield Figure("empty tables", speeds["empty"], "steps/s")
    shares = ratios(speeds["full"], speeds["empty"])
    yield Figure("  share of the empty tables'", [100 * share for share in shares], "%", 1)
    for name, rounds in (("beside the stored runs", claims["full"]), ("on empty tables", claims["empty"])):
        yield Figure(f"a claim of {LEASES_A_CLAIM} {name}", [quantile(times, 0.5) for times in rounds], "ms", 2)
        yield Figure("  99th percentile", [quantile(times, 0.99) for times in rounds], "ms", 2)
    medians = {name: [quantile(times, 0.5) for times in rounds] for name, rounds in claims.items()}
    yield Figure("  the stored as a multiple of the empty", ratios(medians["full"], medians["empty"]), "", 2)


async def _measure(dsn: str, size: Size) -> tuple[dict[str, list[float]], dict[str, list[list[float]]]]:
    speeds: dict[str, list[float]] = {"full": [], "empty": []}
    claims: dict[str, list[list[float]]] = {"full": [], "empty": []}
    async with fresh_schema(dsn) as full:
        await fill(dsn, full, size.stored)
        for number in range(size.rounds):
            async with fresh_schema(dsn) as empty:
                schemas = {"full": full, "empty": empty}
                for name in sorted(schemas, reverse=number % 2 == 0):
                    async with connected(dsn) as connection:
                        await connection.execute("CHECKPOINT")
                    options: dict[str, Any] = {"dsn": dsn, "schema": schemas[name], "runs": size.runs}
                    speeds[name].append(await asyncio.to_thread(call_in_child, "stored:drained", **options))
                urls = {name: with_schema(dsn, schema) for name, schema in schemas.items()}
                found = await asyncio.to_thread(call_in_child, "stored:claimed", urls=urls, claims=size.claims)
                for name, times in found.items():
                    claims[name].append(times)
    return speeds, claims


async def fill(dsn: str, schema: str, stored: int) -> None:
    """Writes so many runs of the lane that will be drained."""
    async with Durable(with_schema(dsn, schema), [drain.workflow(lambda: None)]) as app:
        await app.start("drain", delay=1e9)  # its lane is the first
    async with connected(dsn) as connection:
        for first in range(1, stored + 1, SEED_AT_ONCE):
            await connection.execute(SEED.format(schema), first, min(first + SEED_AT_ONCE - 1, stored))
        for table in ("runs", "inputs", "journal"):
            await connection.execute(f"VACUUM (ANALYZE) {schema}.{table}")


async def drained(dsn: str, schema: str, runs: int) -> float:
    """Steps a second of one worker."""
    loop, done, ended = asyncio.get_running_loop(), asyncio.Event(), itertools.count(1)

    def on_last() -> None:
        if next(ended) == runs:
            loop.call_soon_threadsafe(done.set)

    flow = drain.workflow(on_last)
    async with Durable(with_schema(dsn, schema), [flow]) as app, connected(dsn) as connection:
        ids = [one.run_id for one in await app.start_many(flow, [{"number": number} for number in range(runs)])]
        began = time.perf_counter()
        async with app.worker(concurrency=drain.FULL_BATCH):
            await done.wait()
            left = f"SELECT count(*) FROM {schema}.runs WHERE id = ANY($1::uuid[]) AND finished_at IS NULL"
            while await connection.fetchval(left, ids):
                continue
            return runs * drain.STEPS_PER_RUN / (time.perf_counter() - began)


async def claimed(urls: dict[str, str], claims: int) -> dict[str, list[float]]:
    """Milliseconds of each of some full claims in lanes of their own, one in each schema by turns."""
    runtime, worker_id = SystemRuntime(), secrets.token_hex(8)
    times: dict[str, list[float]] = {name: [] for name in urls}
    async with contextlib.AsyncExitStack() as stack:
        lanes: dict[str, tuple[PostgresStore, int]] = {}
        for name, url in urls.items():
            store = PostgresStore(url, runtime)
            await store.open()
            stack.push_async_callback(store.close)
            (lane,) = await store.define([Definition(Lane("durable", "claimed", worker_id), b'{"nodes":[]}')])
            for _ in range(1 + claims):
                await store.start([NewRun(runtime.new_id(), lane, "claimed", b"{}") for _ in range(LEASES_A_CLAIM)])
            await store.enlist(worker_id, "here")
            lanes[name] = store, lane
        for _ in range(1 + claims):
            for name, (store, lane) in lanes.items():
                began = time.perf_counter()
                found = await store.claim(worker_id, [lane], LEASES_A_CLAIM, 1)
                times[name].append((time.perf_counter() - began) * 1000)
                assert len(found.leases) == LEASES_A_CLAIM
        for store, _ in lanes.values():
            await store.retire(worker_id)
    return {name: some[1:] for name, some in times.items()}
