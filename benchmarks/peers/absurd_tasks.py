"""Absurd on the same PostgreSQL: four connections in one process, each a worker of four tasks at a time.

Its defaults but for that, and for the queue that is looked at every 50 ms instead of every 250 (5 ms for a lone task).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import statistics
import time
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STEPS_PER_RUN = 10
WORKERS = 4
AT_ONCE = 4
POLL_SECONDS = 0.05
LONE_POLL_SECONDS = 0.005
WARM_UP = 5
PATIENCE_SECONDS = 300

absurd: Any = importlib.import_module("absurd_sdk")


async def _installed(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(importlib.import_module("absurdctl").BUNDLED_SCHEMA_SQL)
    await connection.close()
    client = absurd.AsyncAbsurd(url)
    await client.create_queue("default")
    await client.close()


def _registered(url: str, on_end: Any = None, result_bytes: int = 0) -> Any:
    """A client with the tasks; `on_end` is called by the last step of each run."""
    app = absurd.AsyncAbsurd(url)
    value = "x" * (result_bytes - 2) if result_bytes else 1

    async def steps(params: Any, ctx: Any) -> Any:
        for number in range(1, params["steps"] + 1):

            async def work(number: int = number) -> Any:
                if number == params["steps"] and on_end is not None:
                    on_end()
                return value

            await ctx.step(f"step_{number}", work)
        return params["steps"]

    async def wait(params: Any, ctx: Any) -> Any:
        return await ctx.await_event(f"answer:{params['number']}")

    app.register_task(name="steps")(steps)
    app.register_task(name="wait")(wait)
    return app


@contextlib.asynccontextmanager
async def _working(apps: list[Any], poll_seconds: float, at_once: int = AT_ONCE) -> AsyncIterator[None]:
    tasks = [
        asyncio.create_task(
            app.start_worker(
                worker_id=f"w{number}", concurrency=at_once, batch_size=at_once, poll_interval=poll_seconds
            )
        )
        for number, app in enumerate(apps)
    ]
    try:
        yield
    finally:
        for app in apps:
            app.stop_worker()
        await asyncio.gather(*tasks)


async def drained(url: str, peer_runs: int, result_bytes: int = 0) -> dict[str, float]:
    """Steps a second from the start of the workers until every task is stored as completed."""
    return {"steps_per_second": peer_runs * STEPS_PER_RUN / await _seconds(url, peer_runs, STEPS_PER_RUN, result_bytes)}


async def many(url: str, runs: int, peer_runs: int) -> dict[str, float]:
    """Seconds for all `runs` of one step, taken from those that were spawned; spawning them is counted."""
    return {"seconds": await _seconds(url, peer_runs, 1, count_spawning=True) * runs / peer_runs}


async def _seconds(url: str, runs: int, steps: int, result_bytes: int = 0, *, count_spawning: bool = False) -> float:
    await _installed(url)
    ended, done = itertools.count(1), asyncio.Event()

    def on_end() -> None:
        if next(ended) == runs:
            done.set()

    apps = [_registered(url, on_end, result_bytes) for _ in range(WORKERS)]
    client = _registered(url)
    began = time.perf_counter()
    tasks = [await client.spawn("steps", {"steps": steps}) for _ in range(runs)]
    if not count_spawning:
        began = time.perf_counter()
    async with _working(apps, POLL_SECONDS):
        await asyncio.wait_for(done.wait(), PATIENCE_SECONDS)
        await client.await_task_result(tasks[-1]["task_id"], timeout=PATIENCE_SECONDS)
        seconds = time.perf_counter() - began
    for task in tasks:
        assert (await client.fetch_task_result(task["task_id"])).state == "completed"
    for app in (*apps, client):
        await app.close()
    return seconds


async def alone(url: str, peer_runs: int, steps: int) -> dict[str, float]:
    """Milliseconds from a spawn to its result, one after the other."""
    await _installed(url)
    app, client = _registered(url), _registered(url)
    times = []
    async with _working([app], LONE_POLL_SECONDS):
        for _ in range(WARM_UP + peer_runs):
            began = time.perf_counter()
            task = await client.spawn("steps", {"steps": steps})
            while True:
                found = await client.fetch_task_result(task["task_id"])
                if found is not None and found.state == "completed":
                    break
                await asyncio.sleep(LONE_POLL_SECONDS / 5)
            times.append((time.perf_counter() - began) * 1_000)
    await app.close()
    await client.close()
    times = times[WARM_UP:]
    return {"p50_ms": statistics.median(times), "p99_ms": sorted(times)[int(len(times) * 0.99)]}


async def signals(url: str, peer_runs: int) -> dict[str, float]:
    """Events emitted a second, over four connections, to tasks that are parked on them."""
    await _installed(url)
    clients = [_registered(url) for _ in range(WORKERS)]
    for number in range(peer_runs):
        await clients[0].spawn("wait", {"number": number})
    worker = _registered(url)
    async with _working([worker], POLL_SECONDS):
        await asyncio.sleep(0.5)
        connection = await asyncpg.connect(url)
        parked = 0
        while parked < peer_runs:
            await asyncio.sleep(POLL_SECONDS)
            parked = await connection.fetchval("SELECT count(*) FROM absurd.w_default")
        await connection.close()

    async def emit(client: Any, first: int) -> None:
        for number in range(first, peer_runs, WORKERS):
            await client.emit_event(f"answer:{number}", 1)

    began = time.perf_counter()
    await asyncio.gather(*(emit(client, first) for first, client in enumerate(clients)))
    seconds = time.perf_counter() - began
    for app in (*clients, worker):
        await app.close()
    return {"signals_per_second": peer_runs / seconds}
