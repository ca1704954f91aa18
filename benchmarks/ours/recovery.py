"""How long the runs of a worker stand still that was killed with SIGKILL: until another worker completes the first.

The killed worker holds every run, and its handlers wait for ever; those of the next worker return at once. So what is
timed is how the death is noticed, the runs released and claimed, and an outcome committed.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

from benchmarks.child import PATIENCE_SECONDS, Child, child, input_ended, say
from benchmarks.ours.settled import none_left
from stepwell import Durable, durable

if TYPE_CHECKING:
    from stepwell import Context, Workflow

POLL_SECONDS = 0.001


def workflow(stuck_runs: int = 0) -> Workflow:
    """A workflow whose handler returns at once, or waits for ever and says when as many wait as are to."""
    begun = 0

    async def work(ctx: Context) -> int:
        nonlocal begun
        begun += 1
        if begun == stuck_runs:
            say("all in flight")
        if stuck_runs:
            await asyncio.Event().wait()
        return 1

    return durable("recovery").step("work", work)


async def work(url: str, stuck_runs: int = 0) -> None:
    """Is a worker until its input ends, or until it is killed."""
    async with Durable(url, [workflow(stuck_runs)]) as app, app.worker(grace=0):
        say("ready")
        await input_ended()


async def recovered(url: str, runs: int) -> dict[str, float]:
    """Milliseconds to the first run that completes, by a worker that runs already, then by one that is started then."""
    return {
        "running_ms": await _time_to_next_end(url, runs, next_is_running=True),
        "started_ms": await _time_to_next_end(url, runs, next_is_running=False),
    }


async def _time_to_next_end(url: str, runs: int, *, next_is_running: bool) -> float:
    async with Durable(url, [workflow()]) as app:
        before = len(await app.list(status="completed", limit=2 * runs))
        await app.start_many("recovery", [None] * runs)
        with child("ours.recovery:work", url=url, stuck_runs=runs) as killed:
            killed.wait_for("all in flight")
            killed_at = 0.0
            if not next_is_running:
                killed_at = _kill(killed)
            with child("ours.recovery:work", url=url) as following:
                if next_is_running:
                    following.wait_for("ready")
                    # It looks after the others now and then: any moment is as good as another.
                    await asyncio.sleep(random.random())
                    killed_at = _kill(killed)
                while len(await app.list(status="completed", limit=2 * runs)) == before:
                    if time.perf_counter() - killed_at > PATIENCE_SECONDS:
                        raise TimeoutError(f"No worker went on within {PATIENCE_SECONDS:g} s.")
                    await asyncio.sleep(POLL_SECONDS)
                found = (time.perf_counter() - killed_at) * 1_000
                await none_left(app)
    return found


def _kill(process: Child) -> float:
    """Kills a process; when that was."""
    process.kill()
    return time.perf_counter()
