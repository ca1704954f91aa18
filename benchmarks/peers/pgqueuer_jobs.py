"""pgqueuer on the same PostgreSQL: a queue of single jobs, so it does only what a run of one step does.

Its defaults but for batches of 100 jobs instead of 10.
"""

from __future__ import annotations

import importlib
import time
from typing import Any

import asyncpg

BATCH = 100

pgqueuer: Any = importlib.import_module("pgqueuer")
db: Any = importlib.import_module("pgqueuer.db")
queries: Any = importlib.import_module("pgqueuer.queries")
types: Any = importlib.import_module("pgqueuer.types")


async def many(url: str, runs: int) -> dict[str, float]:
    """Seconds from before the jobs are enqueued by one call until the queue is drained."""
    connection = await asyncpg.connect(url)
    driver = db.AsyncpgDriver(connection)
    await queries.Queries(driver).install()
    worker = pgqueuer.PgQueuer(driver)
    done = 0

    async def work(job: Any) -> None:
        nonlocal done
        done += 1

    worker.entrypoint("work")(work)
    began = time.perf_counter()
    await worker.qm.queries.enqueue(["work"] * runs, [b"1"] * runs, [0] * runs)
    await worker.qm.run(batch_size=BATCH, mode=types.QueueExecutionMode.drain)
    seconds = time.perf_counter() - began
    assert done == runs, f"{done} of {runs} jobs were done"
    await connection.close()
    return {"seconds": seconds}
