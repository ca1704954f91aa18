"""Two hundred resumes at the very deadline of a wait, on a real file with another process's connection to it."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import TYPE_CHECKING

from stepwell import Durable, durable
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from stepwell import Entry, RunSnapshot, Workflow

RUNS = 200
TIMEOUT_SECONDS = 1.0
SPREAD_SECONDS = 2.0
EARLIEST, LATEST, MOSTLY = -0.05, 0.4, 0.01
"""Seconds after the deadline; a busy machine is late with the timeout, so that some resumes must be later still."""


def approval() -> Workflow:
    """A wait that gives up."""
    return durable("approval").wait_for_signal("answer", "go", timeout=TIMEOUT_SECONDS)


async def resume_at_deadline(client: Durable, run_id: str, chance: random.Random) -> tuple[bool, Entry]:
    """Resume the run around its deadline; whether that was accepted, and how its wait ended."""

    async def waiting() -> RunSnapshot | None:
        run = await client.status(run_id)
        return run if run.status in {"suspended", "failed"} else None

    deadline = (await eventually(waiting)).wake_at
    if deadline is not None:
        await asyncio.sleep(deadline.timestamp() - time.time() + chance.triangular(EARLIEST, LATEST, MOSTLY))
    answer = await client.resume(run_id, "go", "yes")
    await eventually(lambda: has_ended(client, run_id))
    (entry,) = await client.journal(run_id)
    return answer.accepted, entry


async def has_ended(client: Durable, run_id: str) -> bool:
    """Whether the run has ended."""
    return (await client.status(run_id)).status in {"completed", "failed"}


async def test_i6_a_resume_at_the_deadline_is_used_or_refused_on_a_file(tmp_path: Path) -> None:
    chance = random.Random()
    url = f"sqlite:///{tmp_path / 'store.db'}"
    went = Counter[tuple[bool, str, str | None]]()
    async with Durable(url, [approval()]) as client, Durable(url, [approval()]) as app, app.worker():
        started = [
            (await client.start("approval", delay=chance.uniform(0, SPREAD_SECONDS))).run_id for _ in range(RUNS)
        ]
        for accepted, entry in await asyncio.gather(*(resume_at_deadline(client, run, chance) for run in started)):
            went[accepted, entry.status, entry.result] += 1
        assert await client.recover() == 0
    assert went.keys() == {(True, "completed", "yes"), (False, "failed", None)}
    assert sum(went.values()) == RUNS
