"""How fast one worker process drains runs of trivial steps on PostgreSQL, beside the raw limit in the same rounds.

The raw limit is asyncpg with one statement for the steps of 256 runs: a journal row inserted and a run's row updated
each, fsync on, no fence, no codec, no handler. The server is `STEPWELL_TEST_PG`, or one of the tests' own.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.child import call_in_child
from benchmarks.database import connected, database, fresh_schema
from benchmarks.drain import STEPS_PER_RUN, workflow
from benchmarks.figures import Figure, Line, ratios
from stepwell import Durable
from tests.postgres import with_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLE = "postgres: runs of 10 trivial steps, one worker"
BATCH = 256
SCHEMA = """
CREATE SCHEMA {0};
CREATE TABLE {0}.runs (id uuid PRIMARY KEY, seq integer NOT NULL, updated_at bigint NOT NULL) WITH (fillfactor = 60);
CREATE TABLE {0}.journal (
    run_id uuid NOT NULL, seq integer NOT NULL, node text NOT NULL, value bytea, finished_at bigint NOT NULL,
    PRIMARY KEY (run_id, seq)
);
INSERT INTO {0}.runs SELECT gen_random_uuid(), 0, 0 FROM generate_series(1, {1});
"""
STEP = """
WITH x AS (SELECT * FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::bytea[], $5::bigint[])
           AS x (id, seq, node, value, finished_at)),
u AS (UPDATE {0}.runs AS r SET seq = x.seq, updated_at = x.finished_at FROM x WHERE r.id = x.id)
INSERT INTO {0}.journal SELECT * FROM x
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: `runs` a round."""

    runs: int
    rounds: int


TINY = Size(runs=20, rounds=1)
SHORT = Size(runs=2_000, rounds=3)
FULL = Size(runs=4_000, rounds=9)


def measure(size: Size) -> Iterator[Line]:
    """Ours and the raw limit by turns, each in a fresh process and a fresh schema."""
    drained, limits = [], []
    with database() as dsn:
        for _ in range(size.rounds):
            limits.append(call_in_child("postgres:fastest", dsn=dsn, steps=size.runs * STEPS_PER_RUN))
            drained.append(call_in_child("postgres:drain", dsn=dsn, runs=size.runs, concurrency=BATCH))
    ours = [one["steps_per_second"] for one in drained]
    yield Figure(f"async handlers, concurrency {BATCH}", ours, "steps/s")
    yield Figure(f"  raw limit, batches of {BATCH}", limits, "steps/s")
    yield Figure("  share of the raw limit", [100 * share for share in ratios(ours, limits)], "%", 1)
    yield Figure("  CPU time, whole process", [one["cpu_micros"] for one in drained], "µs/step", 1)


async def fastest(dsn: str, steps: int) -> float:
    """Steps a second of one connection that does nothing else."""
    async with fresh_schema(dsn) as schema, connected(dsn) as connection:
        await connection.execute(SCHEMA.format(schema, BATCH))
        ids = [run_id for (run_id,) in await connection.fetch(f"SELECT id FROM {schema}.runs")]
        sql = STEP.format(schema)
        began = time.perf_counter()
        for seq in range(1, steps // BATCH + 2):
            await connection.execute(sql, ids, [seq] * BATCH, ["step"] * BATCH, [b"1"] * BATCH, [seq] * BATCH)
        seconds = time.perf_counter() - began
    return (steps // BATCH + 1) * BATCH / seconds


async def drain(dsn: str, runs: int, concurrency: int) -> dict[str, Any]:
    """Starts the runs and times a worker until all are stored as completed."""
    loop, done, ended = asyncio.get_running_loop(), asyncio.Event(), itertools.count(1)

    def on_last() -> None:
        if next(ended) == runs:
            loop.call_soon_threadsafe(done.set)

    flow = workflow(on_last)
    async with fresh_schema(dsn) as schema:
        async with Durable(with_schema(dsn, schema), [flow]) as app:
            await app.start_many(flow, [{"number": number} for number in range(runs)])
            began, cpu_began = time.perf_counter(), time.process_time()
            async with app.worker(concurrency=concurrency):
                await done.wait()
                while await app.list(status="running", limit=1):
                    continue
                seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
        async with connected(dsn) as connection:
            found = await connection.fetchval(f"SELECT count(*) FROM {schema}.entries WHERE status = 'completed'")
    steps = runs * STEPS_PER_RUN
    assert found == steps, f"{found} steps are stored as completed, not {steps}"
    return {"steps_per_second": steps / seconds, "cpu_micros": cpu_seconds / steps * 1e6}
