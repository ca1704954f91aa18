"""What a second worker process adds on one PostgreSQL, and whether many that claim at once stand in each other's way.

The runs are started beforehand, due a moment later; the database's clock tells how long it took from that moment until
the last one ended. The claims are the store's own, each by a worker with a connection of its own, from one process, on
a table where many runs are due.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.child import call_in_child, child, input_ended, say
from benchmarks.database import connected, database, fresh_schema
from benchmarks.figures import Figure, Line, ratios
from stepwell import Durable, durable
from stepwell.runtime.system import SystemRuntime
from stepwell.store.postgres.store import PostgresStore
from stepwell.store.protocol import Definition, Lane, NewRun
from tests.postgres import with_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepwell import Context, Workflow

TITLE = "fleet: two workers, many claims on PostgreSQL"
WAIT_SECONDS = 0.05
STEPS_PER_RUN = 10
DELAY_SECONDS = 1.0
POLL_SECONDS = 0.1
CLAIMERS = (1, 2, 4, 8, 16, 32, 64)
LEASES_A_CLAIM = 10
CLAIMED_SHARE = 0.8
"""How much of what is due is claimed: the last runs are not there for everybody."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured a round: `runs` whose handlers wait, `quick_runs` whose do not, `due` runs to claim.

    `claimers`: how many claim at once, at most.
    """

    runs: int
    quick_runs: int
    due: int
    claimers: int
    rounds: int


TINY = Size(runs=10, quick_runs=10, due=1_000, claimers=4, rounds=1)
SHORT = Size(runs=1_200, quick_runs=2_000, due=20_000, claimers=64, rounds=3)
FULL = Size(runs=2_400, quick_runs=4_000, due=50_000, claimers=64, rounds=7)


def measure(size: Size) -> Iterator[Line]:
    """Steps per second of one and of two workers, then runs claimed per second by the number of claimers, by turns."""
    kinds = {"that wait 50 ms": (size.runs, WAIT_SECONDS, 100), "that do not wait": (size.quick_runs, 0.0, 256)}
    speeds: dict[tuple[str, int], list[float]] = {(kind, workers): [] for kind in kinds for workers in (1, 2)}
    claims: dict[int, list[float]] = {claimers: [] for claimers in CLAIMERS if claimers <= size.claimers}
    with database() as dsn:
        for _ in range(size.rounds):
            for (kind, workers), rounds in speeds.items():
                runs, wait, concurrency = kinds[kind]
                rounds.append(asyncio.run(drained(dsn, workers, runs, wait, concurrency)))
            for claimers, rounds in claims.items():
                rounds.append(call_in_child("fleet:claimed", dsn=dsn, claimers=claimers, due=size.due))
    for kind in kinds:
        one, two = speeds[kind, 1], speeds[kind, 2]
        yield Figure(f"handlers {kind}: one worker", one, "steps/s")
        yield Figure("  two workers", two, "steps/s")
        yield Figure("  two as a multiple of one", ratios(two, one), "", 2)
    for claimers, rounds in claims.items():
        yield Figure(f"{LEASES_A_CLAIM} runs a claim, {claimers} at once", rounds, "runs/s")
    *fewer, most = claims.values()
    best = [max(some) for some in zip(*fewer, strict=True)]
    yield Figure(f"  {max(claims)} as a share of the best", [100 * share for share in ratios(most, best)], "%", 1)


def workflow(wait: float) -> Workflow:
    """A workflow of steps that wait, or of trivial ones."""

    async def work(ctx: Context) -> int:
        if wait:
            await asyncio.sleep(wait)
        return 1

    made = durable("fleet")
    for number in range(1, STEPS_PER_RUN + 1):
        made.step(f"step_{number}", work)
    return made


async def work(url: str, wait: float, concurrency: int) -> None:
    """Is a worker until its input ends."""
    async with Durable(url, [workflow(wait)]) as app, app.worker(concurrency=concurrency):
        say("ready")
        await input_ended()


async def drained(dsn: str, workers: int, runs: int, wait: float, concurrency: int) -> float:
    """Steps a second of so many worker processes, from the moment the runs are due until the last one has ended."""
    async with fresh_schema(dsn) as schema, Durable(with_schema(dsn, schema), [workflow(wait)]) as app:
        with contextlib.ExitStack() as stack:
            options: dict[str, Any] = {"url": with_schema(dsn, schema), "wait": wait, "concurrency": concurrency}
            fleet = [stack.enter_context(child("fleet:work", **options)) for _ in range(workers)]
            for worker in fleet:
                worker.wait_for("ready")
            await app.start_many("fleet", [{"number": number} for number in range(runs)], delay=DELAY_SECONDS)
            async with connected(dsn) as connection:
                sql = f'SELECT count(finished_at), max(finished_at) - min(created_at) FROM "{schema}".runs'
                ended, micros = await connection.fetchrow(sql)
                while ended < runs:
                    await asyncio.sleep(POLL_SECONDS)
                    ended, micros = await connection.fetchrow(sql)
    seconds: float = micros / 1e6 - DELAY_SECONDS
    return runs * STEPS_PER_RUN / seconds


async def claimed(dsn: str, claimers: int, due: int) -> float:
    """Runs leased a second by so many workers that do nothing but claim."""
    async with fresh_schema(dsn) as schema, contextlib.AsyncExitStack() as stack:
        runtime = SystemRuntime()
        stores = [PostgresStore(with_schema(dsn, schema), runtime) for _ in range(claimers)]
        await stores[0].migrate()
        for store in stores:
            await store.open()
            stack.push_async_callback(store.close)
        (lane,) = await stores[0].define([Definition(Lane("durable", "fleet", "v1"), b'{"nodes":[]}')])
        for first in range(0, due, 1_000):
            some = range(first, min(first + 1_000, due))
            await stores[0].start([NewRun(runtime.new_id(), lane, "fleet", b"{}") for _ in some])
        workers = {secrets.token_hex(8): store for store in stores}
        for worker_id, store in workers.items():
            await store.enlist(worker_id, "here")
            await store.claim(worker_id, [lane + 1], 1, 1)  # connects, and has its plan made
        left = int(due * CLAIMED_SHARE)
        began = time.perf_counter()

        async def claim(worker_id: str, store: PostgresStore) -> None:
            nonlocal left
            while left > 0:
                found = await store.claim(worker_id, [lane], LEASES_A_CLAIM, 1)
                left -= len(found.leases)

        await asyncio.gather(*(claim(*worker) for worker in workers.items()))
        return (int(due * CLAIMED_SHARE) - left) / (time.perf_counter() - began)
