"""A signal or a resume at the deadline of a wait, in virtual time: accepted and used, or refused and timed out.

`python -m tests.simulation.deadline --seeds 10000` plays as many and counts how they went.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

from stepwell import Durable, durable
from stepwell.store.sqlite.store import SqliteStore
from tests.simulation.faults import FaultPlan, Shared, SimulatedStore
from tests.simulation.loop import VirtualLoop
from tests.simulation.virtual import Host, VirtualRuntime

if TYPE_CHECKING:
    from stepwell import Context, Workflow
    from stepwell.store.protocol import Store
    from stepwell.store.records import Delivered

TIMEOUT = 5.0
AROUND = 0.012
SLOWNESS = 0.004
JOURNALED = """
SELECT 1 FROM stepwell_entries WHERE run_id = ? AND node = 'answer' AND n = 0
"""


class _Watching(SimulatedStore):
    """Notes whether the wait was over, by the journal, when a signal was delivered."""

    over_before: bool | None = None

    async def deliver(
        self, run_id: str, name: str, value: bytes, *, key: str | None, waiting_only: bool, receipt: bytes | None = None
    ) -> Delivered | None:
        """Looks, and delivers, in one moment."""

        async def look_and_deliver() -> Delivered | None:
            self.over_before = self._all.connection.execute(JOURNALED, (run_id,)).fetchone() is not None
            return await self._store.deliver(run_id, name, value, key=key, waiting_only=waiting_only, receipt=receipt)

        delivered: Delivered | None = await self.call("deliver", look_and_deliver)
        return delivered


def _workflow(chance: random.Random) -> Workflow:
    """A wait with a default or without, at the end of the workflow or before a step."""
    flow = durable("approval")
    if chance.random() < 0.5:
        flow.wait_for_signal("answer", "go", timeout=TIMEOUT, default="nobody came")
    else:
        flow.wait_for_signal("answer", "go", timeout=TIMEOUT)
    if chance.random() < 0.5:
        flow.step("after", _after)
    return flow


async def _after(ctx: Context) -> Any:
    return ctx.results["answer"]


async def _play(seed: int) -> tuple[str, list[str]]:
    chance = random.Random(f"deadline {seed}")
    runtime = VirtualRuntime(chance, "host", Host())
    fault_plan = FaultPlan(chance, {}, slowness=SLOWNESS)
    base = SqliteStore("sqlite://", runtime)
    await base.migrate()
    await base.open()
    store = _Watching(Shared(base, fault_plan), None, with_others=False)
    app = Durable(workflows=[_workflow(chance)], store=cast("Store", store), runtime=runtime)
    found: list[str] = []
    async with app, app.worker():
        run_id = (await app.start("approval")).run_id
        await asyncio.sleep(TIMEOUT / 2)
        waiting = await app.status(run_id)
        assert waiting.wake_at is not None
        left = waiting.wake_at.timestamp() - runtime.wall() / 1_000_000
        await asyncio.sleep(left + chance.uniform(-AROUND, AROUND))
        resumes = chance.random() < 0.5
        answer = await (app.resume if resumes else app.signal)(run_id, "go", "yes")
        await asyncio.sleep(TIMEOUT)
        ended = await app.status(run_id)
        (entry,) = [one for one in await app.journal(run_id) if one.node == "answer"]
        stranded = await app.recover()
    await base.close()
    used = entry.result == "yes"
    timed_out = entry.result == "nobody came" or (entry.error is not None and entry.error.type == "SignalTimeout")
    how = f"{'resume' if resumes else 'signal'} {'accepted' if answer.accepted else 'refused'}"
    how += ", used" if used else ", timed out"
    if used == timed_out:
        found.append(f"neither used nor timed out, or both: {entry}")
    if used and not answer.accepted:
        found.append("refused, and used")
    if timed_out and answer.accepted and resumes:
        found.append("a resume was accepted, and the wait timed out")
    if timed_out and answer.accepted and not store.over_before:
        found.append("a signal was accepted before the wait was over, and it timed out")
    if (
        stranded
        or ended.status not in {"completed", "failed"}
        or (ended.status == "completed") != (used or entry.status == "completed")
    ):
        found.append(f"{ended.status} with {entry}; {stranded} stranded")
    return how, found


def play(seed: int) -> tuple[str, list[str]]:
    """How the race of this seed went, and what should not have been."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(_play(seed))
    finally:
        loop.close()


def main() -> int:
    """Play and print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    went, failing, began = Counter[str](), 0, time.perf_counter()
    for seed in range(given.first, given.first + given.seeds):
        how, found = play(seed)
        went[how] += 1
        if found:
            failing += 1
            command = f"python -m tests.simulation.deadline --first {seed} --seeds 1"
            sys.stdout.write("\n  ".join([command, *found]) + "\n")
            sys.stdout.flush()
    sys.stdout.write(f"{given.seeds} seeds in {time.perf_counter() - began:.1f} s; {failing} failed\n")
    sys.stdout.writelines(f"{how:32} {count}\n" for how, count in sorted(went.items()))
    return 1 if failing else 0


if __name__ == "__main__":
    sys.exit(main())
