"""Whether many workers that claim at once on one PostgreSQL stand in each other's way.

The claims are the store's own, each by a worker with a connection of its own, from one process, on a table where many
runs are due.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.child import call_in_child
from benchmarks.database import database, fresh_schema
from benchmarks.figures import Figure, Line, ratios
from stepwell.runtime.system import SystemRuntime
from stepwell.store.postgres.store import PostgresStore
from stepwell.store.records import Definition, Lane, NewRun
from tests.postgres import with_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLE = "claims: many at once on PostgreSQL"
CLAIMERS = (1, 2, 4, 8, 16, 32, 64)
LEASES_A_CLAIM = 10
CLAIMED_SHARE = 0.8
"""How much of what is due is claimed: the last runs do not suffice for every claimer."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured a round: `due` runs to claim, by at most so many `claimers` at once."""

    due: int
    claimers: int
    rounds: int


TINY = Size(due=1_000, claimers=4, rounds=1)
SHORT = Size(due=20_000, claimers=64, rounds=3)
FULL = Size(due=50_000, claimers=64, rounds=7)


def measure(size: Size) -> Iterator[Line]:
    """Runs claimed a second by the number of claimers, by turns."""
    claims: dict[int, list[float]] = {claimers: [] for claimers in CLAIMERS if claimers <= size.claimers}
    with database() as dsn:
        for _ in range(size.rounds):
            for claimers, rounds in claims.items():
                rounds.append(call_in_child("details.claims:claimed", dsn=dsn, claimers=claimers, due=size.due))
    for claimers, rounds in claims.items():
        yield Figure(f"{LEASES_A_CLAIM} runs a claim, {claimers} at once", rounds, "runs/s")
    *fewer, most = claims.values()
    best = [max(some) for some in zip(*fewer, strict=True)]
    yield Figure(f"  {max(claims)} as a share of the best", [100 * share for share in ratios(most, best)], "%", 1)


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
