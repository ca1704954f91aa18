"""The loads whose cost is counted, each in a process of its own that reads the counters around it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from benchmarks.capacity.server import Counters, counters
from benchmarks.child import child, input_ended, say
from benchmarks.ours.settled import none_left
from stepwell import Durable, Observer, durable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stepwell import BatchCommitted, Context, RunEnded, Workflow

STARTS_AT_ONCE = 1_000
LONE_STARTS = 100
SETTLE_SECONDS = 2.0


def workflow(steps: int, wait_seconds: float = 0.0) -> Workflow:
    """So many steps, trivial or waiting."""

    async def work(ctx: Context) -> int:
        if wait_seconds:
            await asyncio.sleep(wait_seconds)
        return 1

    made = durable("counted")
    for number in range(1, steps + 1):
        made.step(f"step_{number}", work)
    return made


class Commits(Observer):
    """Counts the commits of an app's workers."""

    def __init__(self) -> None:
        self.count = 0

    def committed(self, event: BatchCommitted) -> None:
        """One more."""
        self.count += 1


class Ends(Commits):
    """Tells when a run has ended, too."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = asyncio.Event()

    def run_ended(self, event: RunEnded) -> None:
        """It has."""
        self.ended.set()


@contextlib.asynccontextmanager
async def _counting(url: str) -> AsyncIterator[Any]:
    """A function that reads the counters of the store that the URL names."""
    if url.startswith("sqlite:///"):
        file = Path(url.removeprefix("sqlite:///"))

        async def read() -> Counters:
            return _file_counters(file)

        yield read
        return
    import asyncpg  # noqa: PLC0415  a file needs no driver

    parts = urlsplit(url)
    (schema,) = parse_qs(parts.query)["schema"]
    connection = await asyncpg.connect(parts._replace(query="").geturl())
    try:
        yield lambda: counters(connection, schema)
    finally:
        await connection.close()


def _file_counters(file: Path) -> Counters:
    io = dict(line.split(": ") for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines())
    size = file.stat().st_size if file.exists() else 0
    return Counters({"disk_bytes": float(size), "written_bytes": float(io["write_bytes"])})


async def drained(
    url: str, runs: int, steps: int, concurrency: int, *, observed: bool = False
) -> dict[str, dict[str, float]]:
    """What starting and what working off so many runs costs: CPU here, and what the store counts.

    Commits are counted by an observer, which may cost something itself: only if it is `observed`.
    """
    done, ended = asyncio.Event(), itertools.count(1)

    async def last(ctx: Context) -> int:
        if next(ended) == runs:
            done.set()
        return 1

    flow = workflow(steps - 1).step("last", last)
    commits = Commits()
    async with _counting(url) as read:
        async with Durable(url, [flow], observers=[commits] if observed else []) as app:
            before, cpu = await read(), time.process_time()
            for first in range(0, runs, STARTS_AT_ONCE):
                await app.start_many(flow, [None] * min(STARTS_AT_ONCE, runs - first))
            started_cpu, started = time.process_time() - cpu, await read()
            cpu, began = time.process_time(), time.perf_counter()
            async with app.worker(concurrency=concurrency):
                await done.wait()
                await none_left(app)
                seconds, worked_cpu = time.perf_counter() - began, time.process_time() - cpu
        after = await read()
    size = {"runs": float(runs), "steps": float(runs * steps), "concurrency": float(concurrency)}
    size["commits"] = float(commits.count)
    return {
        "start": {"client_micros": started_cpu * 1e6, **started.since(before), **size},
        "work": {"worker_micros": worked_cpu * 1e6, "seconds": seconds, **after.since(started), **size},
    }


async def one_by_one(url: str, runs: int, steps: int) -> dict[str, float]:
    """The same of runs of which each is started when the one before it has ended; their starts are counted, too."""
    flow, ends = workflow(steps), Ends()
    async with _counting(url) as read:
        async with Durable(url, [flow], observers=[ends]) as app, app.worker():
            await app.result((await app.start(flow)).run_id)
            ends.count = 0
            before, cpu, began = await read(), time.process_time(), time.perf_counter()
            for _ in range(runs):
                ends.ended.clear()
                await app.start(flow)
                await ends.ended.wait()
            seconds, spent = time.perf_counter() - began, time.process_time() - cpu
        counted = (await read()).since(before)
    size = {"runs": float(runs), "steps": float(runs * steps), "concurrency": 1.0, "seconds": seconds}
    size["commits"] = float(ends.count)
    return {"worker_micros": spent * 1e6, **counted, **size}


async def started_alone(url: str) -> dict[str, float]:
    """What a start by itself costs."""
    flow = workflow(1)
    async with _counting(url) as read, Durable(url, [flow]) as app:
        await app.start(flow)
        before, cpu = await read(), time.process_time()
        for _ in range(LONE_STARTS):
            await app.start(flow)
        client = time.process_time() - cpu
        counted = (await read()).since(before)
    return {name: value / LONE_STARTS for name, value in {"client_micros": client * 1e6, **counted}.items()}


async def idle(url: str, workers: int) -> None:
    """Is so many workers, each with an app of its own, as in processes of their own, until its input ends."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(workers):
            app = await stack.enter_async_context(Durable(url, [workflow(1)]))
            await stack.enter_async_context(app.worker())
        say("ready")
        await input_ended()


async def idling(url: str, workers: int, seconds: float, hints: int) -> dict[str, float]:
    """What so many idle workers cost a second, each; and what each hint of another process costs for each of them."""
    async with _counting(url) as read, Durable(url, [workflow(1)]) as app:
        await app.start("counted", delay=1e9)
        with child("capacity.loads:idle", url=url, workers=workers) as fleet:
            await asyncio.to_thread(fleet.wait_for, "ready")
            await asyncio.sleep(SETTLE_SECONDS)
            before, cpu = await read(), _micros_of(fleet.pid)
            await asyncio.sleep(seconds)
            quiet, quiet_cpu = (await read()).since(before), _micros_of(fleet.pid) - cpu
            connections = await _connections(url)
            before, cpu, began = await read(), _micros_of(fleet.pid), time.perf_counter()
            for _ in range(hints):
                await app.start("counted", delay=1e9)
                await asyncio.sleep(0.03)
            await asyncio.sleep(0.5)
            lasted = time.perf_counter() - began
            told, told_cpu = (await read()).since(before), _micros_of(fleet.pid) - cpu
    found = {"workers": float(workers), "connections": connections / workers, "worker_micros": quiet_cpu}
    found |= quiet
    idle = {f"idle_{name}": value / workers / seconds for name, value in found.items() if name.endswith(KEPT)}
    extra = {"worker_micros": told_cpu, **told}
    each = hints * workers
    reaction = {
        f"hint_{name}": max(0.0, value - idle.get(f"idle_{name}", 0.0) * workers * lasted) / each
        for name, value in extra.items()
        if name.endswith(KEPT)
    }
    return {"workers": workers, "connections": found["connections"], **idle, **reaction}


KEPT = ("_micros", "_calls")


async def steady(url: str, *, workers: int, rate: float, seconds: float, steps: int, wait: float) -> dict[str, float]:
    """Runs that are started one by one at a steady rate and worked off by worker processes; counted a second."""
    async with _counting(url) as read, Durable(url, [workflow(steps)]) as app:
        with contextlib.ExitStack() as stack:
            options = {"url": url, "steps": steps, "wait": wait}
            fleet = [stack.enter_context(child("capacity.loads:work", **options)) for _ in range(workers)]
            for worker in fleet:
                await asyncio.to_thread(worker.wait_for, "ready")
            before, cpu, own = await read(), sum(_micros_of(one.pid) for one in fleet), time.process_time()
            began, started = time.perf_counter(), 0
            while time.perf_counter() - began < seconds:
                wanted = int((time.perf_counter() - began) * rate)
                await asyncio.gather(*(app.start("counted") for _ in range(max(0, wanted - started))))
                started = max(started, wanted)
                await asyncio.sleep(0.005)
            client = time.process_time() - own
            await none_left(app)
            lasted = time.perf_counter() - began
            worked = sum(_micros_of(one.pid) for one in fleet) - cpu
        counted = (await read()).since(before)
    return {"runs": started, "seconds": lasted, "worker_micros": worked, "client_micros": client * 1e6, **counted}


async def work(url: str, steps: int, wait: float) -> None:
    """Is a worker until its input ends."""
    async with Durable(url, [workflow(steps, wait)]) as app, app.worker(concurrency=256):
        say("ready")
        await input_ended()


async def _connections(url: str) -> int:
    """How many connections other processes have to the server: without those of this one."""
    import asyncpg  # noqa: PLC0415  a file needs no driver

    connection = await asyncpg.connect(urlsplit(url)._replace(query="").geturl())
    try:
        sql = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        return int(await connection.fetchval(sql)) - 3
    finally:
        await connection.close()


def _micros_of(pid: int) -> float:
    if pid == os.getpid():
        return sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) * 1e6
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:13]) * 1e6 / os.sysconf("SC_CLK_TCK")
