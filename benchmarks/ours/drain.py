"""Draining runs of trivial steps that were started beforehand: by one worker, or by some processes at once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.child import child, input_ended, say
from benchmarks.ours.settled import none_left
from stepwell import Durable, durable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepwell import Context, RunSnapshot, Workflow

STEPS_PER_RUN = 10
BATCH = 256
DELAY_SECONDS = 1.0
PAGE = 1_000
SAMPLE = 10
"""Of so many runs the journal is read afterwards: it must have an entry for each step."""


def workflow(
    on_last: Callable[[], None], *, plain: bool = False, result_bytes: int = 0, compute_micros: int = 0
) -> Workflow:
    """A workflow of ten steps that calls `on_last` in the last one.

    Handlers are `plain` functions or coroutines, compute for so long by the CPU's clock, and return 1 or a text that
    takes so many bytes as JSON.
    """
    value: Any = "x" * (result_bytes - 2) if result_bytes else 1

    def work(ctx: Context) -> Any:
        if compute_micros:
            end = time.thread_time() + compute_micros / 1e6
            while time.thread_time() < end:
                continue
        if ctx.step == f"step_{STEPS_PER_RUN}":
            on_last()
        return value

    async def work_on_the_loop(ctx: Context) -> Any:
        return work(ctx)

    async def trivial(ctx: Context) -> Any:
        return value

    handler = work if plain else work_on_the_loop
    made = durable("drain")
    for number in range(1, STEPS_PER_RUN):
        made.step(f"step_{number}", handler if plain or compute_micros else trivial)
    return made.step(f"step_{STEPS_PER_RUN}", handler)


async def drained(url: str, runs: int, concurrency: int = BATCH, result_bytes: int = 0, *, plain: bool = False) -> Any:
    """One worker in this process, from entering it until the last run is stored as completed.

    Microseconds are CPU time a step: of the event loop's thread, and of the process.
    """
    inputs = [{"number": number} for number in range(runs)]
    make = partial(workflow, plain=plain, result_bytes=result_bytes)
    return await drained_of(url, make, inputs, concurrency)


async def drained_of(
    url: str, make: Callable[[Callable[[], None]], Workflow[Any]], inputs: Sequence[Any], concurrency: int = BATCH
) -> Any:
    """The same for a workflow of ten steps that calls what it is made with in the last one."""
    runs = len(inputs)
    loop, done, ended = asyncio.get_running_loop(), asyncio.Event(), itertools.count(1)

    def on_last() -> None:
        if next(ended) == runs:
            loop.call_soon_threadsafe(done.set)

    flow = make(on_last)
    async with Durable(url, [flow]) as app:
        started = await app.start_many(flow, inputs)
        began, loop_began, cpu_began = time.perf_counter(), time.thread_time(), time.process_time()
        async with app.worker(concurrency=concurrency):
            await done.wait()
            while await app.list(status="running", limit=1):
                continue
            seconds = time.perf_counter() - began
            loop_seconds, cpu_seconds = time.thread_time() - loop_began, time.process_time() - cpu_began
        for one in started[:: max(1, runs // SAMPLE)]:
            assert [entry.status for entry in await app.journal(one.run_id)] == ["completed"] * STEPS_PER_RUN
    steps = runs * STEPS_PER_RUN
    return {
        "steps_per_second": steps / seconds,
        "loop_micros": loop_seconds / steps * 1e6,
        "process_micros": cpu_seconds / steps * 1e6,
    }


async def drained_by_processes(url: str, runs: int, workers: int, compute_micros: int = 0) -> dict[str, float]:
    """So many worker processes, from the moment the runs are due until the last one is stored as completed."""
    async with Durable(url, [workflow(lambda: None)]) as app:
        with contextlib.ExitStack() as stack:
            options = {"url": url, "compute_micros": compute_micros}
            fleet = [stack.enter_context(child("ours.drain:work", **options)) for _ in range(workers)]
            for worker in fleet:
                worker.wait_for("ready")
            await app.start_many("drain", [{"number": number} for number in range(runs)], delay=DELAY_SECONDS)
            await asyncio.sleep(DELAY_SECONDS)
            await none_left(app)
        ended = await _all(app, "completed")
    assert len(ended) == runs, f"{len(ended)} of {runs} runs completed"
    due = min(run.created_at.timestamp() for run in ended) + DELAY_SECONDS
    last = max(run.finished_at.timestamp() for run in ended if run.finished_at)
    return {"steps_per_second": runs * STEPS_PER_RUN / (last - due)}


async def work(url: str, compute_micros: int) -> None:
    """Is a worker until its input ends."""
    flow = workflow(lambda: None, compute_micros=compute_micros)
    async with Durable(url, [flow]) as app, app.worker(concurrency=BATCH):
        say("ready")
        await input_ended()


async def _all(app: Durable, status: str) -> list[RunSnapshot]:
    """Every run of that status, page by page."""
    found: list[RunSnapshot] = []
    page = await app.list(status=status, limit=PAGE)
    while page:
        found += page
        page = await app.list(status=status, limit=PAGE, before=page[-1].run_id)
    return found
