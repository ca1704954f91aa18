"""Takes the server away from three workers for a minute, with default settings, and tells how they come back.

`python -m scripts.outage --seconds 60` starts a PostgreSQL of its own, holds steps in flight, parks runs on timers that
fire meanwhile, and has clients that call all the time. It exits non-zero if a run was lost, changed its owner, or was
done twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
import time
from contextlib import AsyncExitStack
from typing import Any

from stepwell import Durable
from tests.network_faults import CountedCalls, check, fetch, fresh_schema, owners, retrying_while_unavailable
from tests.postgres import Server
from tests.waiting import PATIENCE, eventually

WORKERS = 3
ENTRIES = "SELECT count(*) FROM journal"


async def measure(seconds: float, each: int) -> dict[str, Any]:
    """The figures of one outage."""
    counted = CountedCalls()
    with Server() as server:
        url = fresh_schema(server.dsn)
        async with AsyncExitStack() as stack:
            apps = [Durable(url, counted.workflows(), queue=f"queue-{at}") for at in range(WORKERS)]
            for app in apps:
                await stack.enter_async_context(app)
            held = [run.run_id for app in apps for run in await app.start_many("held", range(each))]
            workers = [await stack.enter_async_context(app.worker()) for app in apps]
            await counted.reached(WORKERS * each, "work")
            asleep = [run.run_id for run in await apps[0].start_many("held", range(each), delay=seconds / 2)]
            before, ids = await owners(url), [worker.worker_id for worker in workers]
            ((entries,),) = await fetch(url, ENTRIES)

            stopping = time.monotonic()
            await asyncio.to_thread(server.stop, signal.SIGQUIT)
            clients = [asyncio.create_task(_call(app, f"client {at}", seconds)) for at, app in enumerate(apps)]
            counted.release.set()
            await asyncio.sleep(max(0.0, seconds - (time.monotonic() - stopping)))
            away = time.monotonic() - stopping
            await asyncio.to_thread(server.start)
            up = time.monotonic()
            await eventually(lambda: _has_more(url, entries))
            first_entry = time.monotonic() - up
            called = [await client for client in clients]
            run_ids = [*held, *asleep, *called]
            for run_id in run_ids:
                await apps[0].result(run_id, timeout=PATIENCE)
            all_ended = time.monotonic() - up
            journaled = {entry.worker for run_id in held for entry in await apps[0].journal(run_id)}
            ended = await check(apps[0], url, counted, run_ids)
            return {
                "seconds away": round(away, 1),
                "workers": WORKERS,
                "runs with a step in flight": len(held),
                "runs whose timer fired meanwhile": len(asleep),
                "runs started by clients meanwhile": len(called),
                "server up to first new entry, seconds": round(first_entry, 3),
                "server up to all runs ended, seconds": round(all_ended, 3),
                "runs lost": len(run_ids) - len(ended),
                "runs whose owner changed": sum(before[run_id][0] not in ids for run_id in held),
                "entries by strangers": len(journaled - set(ids)),
                "workers under a new id": sum(new.worker_id != old for new, old in zip(workers, ids, strict=True)),
                "calls made twice": len(counted.repeated()),
            }


async def _call(app: Durable, key: str, seconds: float) -> str:
    """A client that starts one run, and calls until it is told that it did."""
    started = await retrying_while_unavailable(lambda: app.start("held", key=key), within=seconds + PATIENCE)
    return started.run_id


async def _has_more(url: str, entries: int) -> bool:
    ((now,),) = await fetch(url, ENTRIES)
    return bool(now > entries)


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of the outage")
    parser.add_argument("--each", type=int, default=30, help="runs that each worker holds")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    logging.getLogger("stepwell").setLevel(logging.ERROR)  # the outage itself is expected
    told = asyncio.run(measure(given.seconds, given.each))
    if given.json:
        print(json.dumps(told))
    else:
        for name, value in told.items():
            print(f"{name:40} {value}")
    wrong = (
        "runs lost",
        "runs whose owner changed",
        "entries by strangers",
        "workers under a new id",
        "calls made twice",
    )
    return 1 if any(told[name] for name in wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
