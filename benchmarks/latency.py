"""How long one run takes when nothing else is going on, from before its `start` to the return of `result`."""

from __future__ import annotations

import contextlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.child import call_in_child, child, input_ended, say
from benchmarks.figures import Figure, Line, quantile
from stepwell import Durable, durable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepwell import Context, Workflow

TITLE = "latency: one run alone, start to result"
LENGTHS = (1, 10)
PLACES = {"worker in the client's process": False, "worker in another process": True}
WARM_UP = 10


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: `runs` one after the other in each round."""

    runs: int
    rounds: int


TINY = Size(runs=5, rounds=1)
SHORT = Size(runs=200, rounds=3)
FULL = Size(runs=1_000, rounds=5)


def measure(size: Size) -> Iterator[Line]:
    """The median and the 99th percentile in milliseconds, by place and length."""
    found: dict[tuple[str, int], list[list[float]]] = {(place, steps): [] for place in PLACES for steps in LENGTHS}
    for _ in range(size.rounds):
        for (place, steps), rounds in found.items():
            rounds.append(_times(size.runs, steps, apart=PLACES[place]))
    for (place, steps), rounds in found.items():
        what = f"{place}, {steps} step{'s' * (steps > 1)}"
        yield Figure(what, [quantile(times, 0.5) for times in rounds], "ms", 2)
        yield Figure("  99th percentile", [quantile(times, 0.99) for times in rounds], "ms", 2)


def _times(runs: int, steps: int, *, apart: bool) -> list[float]:
    with tempfile.TemporaryDirectory(prefix="stepwell-latency-") as folder:
        file = str(Path(folder) / "store.db")
        options = {"file": file, "steps": steps, "runs": runs}
        if not apart:
            return _in_child(options, with_worker=True)
        with child("latency:work", file=file, steps=steps) as worker:
            worker.wait_for("ready")
            return _in_child(options, with_worker=False)


def _in_child(options: dict[str, Any], *, with_worker: bool) -> list[float]:
    times: list[float] = call_in_child("latency:run_alone", **options, with_worker=with_worker)
    return times


def workflow(steps: int) -> Workflow:
    """A workflow of trivial steps."""

    async def work(ctx: Context) -> int:
        return 1

    made = durable("alone")
    for number in range(1, steps + 1):
        made.step(f"step_{number}", work)
    return made


async def work(file: str, steps: int) -> None:
    """Is a worker until its input ends."""
    async with Durable(f"sqlite:///{file}", [workflow(steps)]) as app, app.worker():
        say("ready")
        await input_ended()


async def run_alone(file: str, steps: int, runs: int, *, with_worker: bool) -> list[float]:
    """Milliseconds of one run after the other, with some before that are not counted."""
    times = []
    async with contextlib.AsyncExitStack() as stack:
        app = await stack.enter_async_context(Durable(f"sqlite:///{file}", [workflow(steps)]))
        if with_worker:
            await stack.enter_async_context(app.worker())
        for _ in range(WARM_UP + runs):
            began = time.perf_counter()
            started = await app.start("alone")
            await app.result(started.run_id, timeout=60)
            times.append((time.perf_counter() - began) * 1000)
    return times[WARM_UP:]
