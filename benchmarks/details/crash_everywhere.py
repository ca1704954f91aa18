"""How long `crash_everywhere` takes: a workflow of 20 nodes, run once for each place where its process can die."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.figures import Figure, Line
from stepwell import Branch, durable
from stepwell.testing import crash_everywhere

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepwell import Context, Workflow
    from stepwell.testing import CrashReport

TITLE = "crash_everywhere: a crash at every place"
_KINDS = 5


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: a workflow of so many `nodes`, in so many `rounds`."""

    nodes: int
    rounds: int


TINY = Size(nodes=5, rounds=1)
SHORT = Size(nodes=20, rounds=2)
FULL = Size(nodes=20, rounds=5)


def measure(size: Size) -> Iterator[Line]:
    """Seconds in memory, for a run that completes and for one that is undone from its last node on."""
    for what, failing in (("completed", None), ("compensated", "last")):
        reports, processor = [], []
        for _ in range(size.rounds):
            began = time.process_time()
            reports.append(asyncio.run(_crash(size.nodes, failing)))
            processor.append(time.process_time() - began)
        yield Figure(f"{size.nodes} nodes, {what}", [report.seconds for report in reports], "s", 1)
        yield Figure("  CPU time", processor, "s", 1)
        yield Figure("  crash points", [report.reached for report in reports], "points")


async def _crash(nodes: int, failing: str | None) -> CrashReport:
    report = await crash_everywhere(workflow(nodes), 1, failing=failing, probe=lambda: 0, reset=lambda: None)
    report.assert_ok()
    return report


async def _work(ctx: Context) -> int:
    return 1


async def _iterate(value: int, ctx: Context) -> int:
    return value


def workflow(nodes: int) -> Workflow:
    """So many nodes of every kind that needs no child or signal, the last one a step."""
    made = durable("crashed")
    for number in range(1, nodes):
        name = f"node_{number}"
        match number % _KINDS:
            case 0:
                made.parallel(name, {f"{name}_a": Branch(_work, compensate=_work), f"{name}_b": _work})
            case 1:
                made.route(name, lambda ctx: "air", {"air": Branch(_work, compensate=_work), "sea": _work})
            case 2:
                made.loop(name, _iterate, max_iterations=2, pause=60)
            case 3:
                made.sleep(name, 3600)
            case _:
                made.step(name, _work, compensate=_work)
    return made.step("last", _work)
