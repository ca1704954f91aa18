"""How long the runs of a worker stand still that was killed with SIGKILL: until another's first entry in a journal.

The killed worker holds every run, and its handlers wait for ever; those of the next worker return at once. So what is
timed is how the death is noticed, the runs freed and claimed, and an outcome committed.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.child import PATIENCE_SECONDS, Child, child, input_ended, say
from benchmarks.figures import Figure, Line
from stepwell import Durable, durable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepwell import Context, Workflow

TITLE = "recovery: SIGKILL to the next entry"
POLL_SECONDS = 0.0005


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: one kill a round for each way, with `runs` in flight."""

    runs: int
    rounds: int


TINY = Size(runs=5, rounds=1)
SHORT = Size(runs=50, rounds=7)
FULL = Size(runs=50, rounds=31)


def measure(size: Size) -> Iterator[Line]:
    """Milliseconds to the first new entry; the last figure of a line is the worst."""
    running = []
    fresh = []
    for _ in range(size.rounds):
        running.append(_time_to_next_entry(size.runs, next_is_running=True))
        fresh.append(_time_to_next_entry(size.runs, next_is_running=False))
    yield Figure("next worker already running", running, "ms")
    yield Figure("next worker started after the kill", fresh, "ms")


def _time_to_next_entry(runs: int, *, next_is_running: bool) -> float:
    with tempfile.TemporaryDirectory(prefix="stepwell-recovery-") as folder:
        file = str(Path(folder) / "store.db")
        asyncio.run(_start(file, runs))
        with child("recovery:work", file=file, stuck_runs=runs) as killed:
            killed.wait_for("all in flight")
            if not next_is_running:
                began = time.perf_counter()
                killed.kill()
                with child("recovery:work", file=file) as following:
                    return _entry_after(began, file, following)
            with child("recovery:work", file=file) as following:
                following.wait_for("ready")
                time.sleep(random.random())  # it looks after the others now and then: any moment is as good as another
                began = time.perf_counter()
                killed.kill()
                return _entry_after(began, file, following)


def _entry_after(began: float, file: str, following: Child) -> float:
    """Milliseconds from then to the first entry; whoever writes it is killed at once."""
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        while connection.execute("SELECT 1 FROM stepwell_journal LIMIT 1").fetchone() is None:
            if time.perf_counter() - began > PATIENCE_SECONDS:
                raise TimeoutError(f"no worker went on within {PATIENCE_SECONDS:g} s")
            time.sleep(POLL_SECONDS)
        return (time.perf_counter() - began) * 1000
    finally:
        connection.close()
        following.kill()


def workflow(stuck_runs: int = 0) -> Workflow:
    """A workflow whose handler returns at once, or waits for ever and says when so many do."""
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


async def _start(file: str, runs: int) -> None:
    async with Durable(f"sqlite:///{file}", [workflow()]) as app:
        await app.start_many("recovery", [None] * runs)


async def work(file: str, stuck_runs: int = 0) -> None:
    """Is a worker until its input ends, or until it is killed."""
    async with Durable(f"sqlite:///{file}", [workflow(stuck_runs)]) as app, app.worker(grace=0):
        say("ready")
        await input_ended()
