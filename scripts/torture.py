"""Tortures workers on one SQLite file, and holds what happened against a model that shares nothing with the engine.

`python -m scripts.torture --runs 300 --workers 3` starts random workflows over all kinds of nodes with children three
deep, kills a worker every 300 ms on average, stops and freezes some, and meanwhile sends signals, resumes and cancels.
It exits non-zero if a run did not end as its input says, or if an invariant does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.torture_parts.crew import Crew, Toll
from scripts.torture_parts.worker import LOG, Options, app_in, designs_of, read_log
from tests.simulation.check import violations
from tests.simulation.client import Client, Manner, tell
from tests.simulation.story import Line, Story

PATIENCE_SECONDS = 60.0
"""How long the runs may still take once nobody is killed any more."""


@dataclass(slots=True)
class Found:
    """What the torture showed."""

    seed: int
    seconds: float = 0.0
    client: Counter[str] = field(default_factory=Counter)
    toll: Toll = field(default_factory=Toll)
    recovered: int = -1
    in_flight: int = 0
    recovery: list[float] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


async def play(folder: Path, given: argparse.Namespace) -> tuple[Found, Story]:
    """Torture until all runs have ended, or patience has; then look."""
    options = Options(given.seed, given.unit, given.lease, given.max_crashes, given.concurrency)
    found, began = Found(given.seed), time.monotonic()
    story = Story(designs_of(options))
    (folder / LOG).touch()
    async with app_in(folder, options, _Nobody()) as app:
        chance = [random.Random(f"{who} {given.seed}") for who in ("client", "crew")]  # noqa: S311 - guards nothing
        client = Client(app, story, chance[0], time.time, Manner())
        async with Crew(folder, options, given.workers, chance[1]) as crew:
            troubling = asyncio.create_task(client.trouble(given.runs, given.poisons))
            tormenting = asyncio.create_task(crew.torment(given.every, stops=given.stops, freezes=given.freezes))
            await asyncio.wait({troubling, tormenting}, timeout=given.longest, return_when=asyncio.FIRST_COMPLETED)
            tormenting.cancel()
            await asyncio.wait({tormenting})
            await crew.spare()
            await asyncio.wait({troubling}, timeout=PATIENCE_SECONDS)
            troubling.cancel()
            for ended in (troubling, tormenting):
                with contextlib.suppress(asyncio.CancelledError):
                    await ended
            found.recovered = await app.recover()
            await tell(app, story)
        found.violations += [*client.done.faults, *crew.toll.faults]
        found.client, found.toll = client.done.counts, crew.toll
        if crew.toll.faults:
            print(crew.complaints[-4000:], file=sys.stderr)
    story.lines = read_log(folder)
    story.stopped, story.late = crew.toll.everybody, {*crew.toll.frozen}
    found.violations += violations(story) + blamed(story, given.poisons)
    if found.recovered:
        found.violations.append(f"I4: recover() found {found.recovered} runs that nothing would have moved")
    measure(found, story.lines)
    found.seconds = time.monotonic() - began
    return found, story


class _Nobody:
    """The client's own handlers: it is no worker, so nobody calls them."""

    def begins(self, *_: object) -> str:
        raise AssertionError("the client works on no run")

    def ends(self, *_: object) -> None:
        raise AssertionError("the client works on no run")

    async def works(self, *_: object) -> None:
        raise AssertionError("the client works on no run")

    def works_plainly(self) -> None:
        raise AssertionError("the client works on no run")


def blamed(story: Story, poisons: int) -> list[str]:
    """Runs that are blamed for the death of workers, though no step of theirs kills any."""
    found = []
    for run_id, run in story.snapshots.items():
        crashed = any(entry.error is not None and entry.error.type == "CrashLimit" for entry in story.journals[run_id])
        if crashed and "poison" not in run.input:
            own = [line for line in story.lines if line.run_id == run_id and line.event == "begin"]
            last = [(line.who, round(line.at, 2)) for line in own if own[-1].key == line.key]
            found.append(f"max_crashes: {run_id} is innocent, and was failed after calls by {last}; poisons: {poisons}")
    return found


def measure(found: Found, lines: list[Line]) -> None:
    """How many calls were cut off, and how long it took until each was begun again by another worker."""
    deaths = {**found.toll.killed, **found.toll.poisoned}
    ended = {line.token for line in lines if line.event == "end"}
    waiting: dict[tuple[str, str], float] = {}
    for line in sorted(lines, key=lambda line: line.at):
        if line.event != "begin" or line.phase not in {"do", "undo"}:
            continue
        since = waiting.pop((line.key, line.phase), None)
        if since is not None:
            found.recovery.append(line.at - since)
        if line.token not in ended and line.who in deaths:
            found.in_flight += 1
            waiting[line.key, line.phase] = max(deaths[line.who], line.at)


def report(found: Found, story: Story) -> dict[str, Any]:
    """What is printed, as one value."""
    calls = [line for line in story.lines if line.event == "begin" and line.phase in {"do", "undo"}]
    once = {(line.key, line.phase, line.attempt) for line in calls}
    depth = Counter(story.designs[run.workflow_name].level for run in story.snapshots.values())
    kinds = Counter(entry.kind for journal in story.journals.values() for entry in journal)
    return {
        "seed": found.seed,
        "seconds": round(found.seconds, 1),
        "runs": dict(depth),
        "ended": dict(Counter(str(run.status) for run in story.snapshots.values())),
        "journal entries": dict(kinds),
        "kills": len(found.toll.killed),
        "workers killed by a poison step": len(found.toll.poisoned),
        "runs failed by max_crashes": sum(
            run.error is not None and run.error.type == "CrashLimit" for run in story.snapshots.values()
        ),
        "clean stops": len(found.toll.stopped),
        "freezes": len(found.toll.frozen),
        "client": dict(sorted(found.client.items())),
        "handler calls": len(calls),
        "handler calls repeated": len(calls) - len(once),
        "calls in flight at kills": found.in_flight,
        "recovery median seconds": round(statistics.median(found.recovery), 3) if found.recovery else None,
        "recovery worst seconds": round(max(found.recovery), 3) if found.recovery else None,
        "recover() gave": found.recovered,
        "violations": found.violations,
    }


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=time.time_ns() // 1000 % 1_000_000)
    parser.add_argument("--runs", type=int, default=300, help="roots; their children come on top")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--every", type=float, default=0.3, help="seconds between two kills, on average")
    parser.add_argument("--stops", type=float, default=0.08, help="the share of SIGTERM among the kills")
    parser.add_argument("--freezes", type=float, default=0.03, help="the share of SIGSTOP among the kills")
    parser.add_argument("--poisons", type=int, default=2, help="runs with a step that kills its worker, always")
    crashes = "above the default: at this rate of kills five may hit one long call by chance alone"
    parser.add_argument("--max-crashes", type=int, default=12, help=crashes)
    parser.add_argument("--lease", type=float, default=1.0)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--unit", type=float, default=0.2, help="how long things wait in the workflows, in seconds")
    parser.add_argument("--longest", type=float, default=1200.0, help="seconds after which nobody is killed any more")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def main() -> int:
    """Play and print; the exit status."""
    given = arguments()
    with tempfile.TemporaryDirectory(prefix="stepwell-torture-") as folder:
        told = report(*asyncio.run(play(Path(folder), given)))
    if given.json:
        print(json.dumps(told))
    else:
        for name, value in told.items():
            print(f"{name:34} {value}" if name != "violations" else f"{name:34} {len(value)}")
        print("\n".join(told["violations"]))
    return 1 if told["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
