"""Tortures workers on one store, and holds what happened against a model that shares nothing with the engine.

`python -m scripts.torture --runs 300 --workers 3` starts random workflows over all kinds of nodes with children three
deep on a SQLite file, kills a worker every 300 ms on average, stops and freezes some, and meanwhile sends signals,
resumes and cancels. With `--postgres` it does so on a server of its own, whose backends are terminated at random, and
which is restarted in immediate mode halfway. It exits non-zero if a run did not end as its input says, or if an
invariant does not hold.
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
from scripts.torture_parts.places import FilePlace, Place, ServerPlace
from scripts.torture_parts.recovery import Recovery, recovery_in
from scripts.torture_parts.worker import LOG, Options, app_of, designs_of, read_log
from tests.simulation.check import violations
from tests.simulation.client import Client, Manner, tell
from tests.simulation.story import Story

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
    buried_alive: int = 0
    recovery: Recovery = field(default_factory=Recovery)
    figures: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)


async def play(folder: Path, place: Place, given: argparse.Namespace) -> tuple[Found, Story]:
    """Torture until all runs have ended, or patience has; then look."""
    crashes, long_calls = given.max_crashes, given.long_calls
    options = Options(place.url, given.seed, given.unit, given.lease, crashes, given.concurrency, long_calls)
    found, began = Found(given.seed), time.monotonic()
    story = Story(designs_of(options))
    (folder / LOG).touch()
    async with app_of(options, _Nobody()) as app:
        client = Client(app, story, _chance("client", given), time.time, Manner())
        async with Crew(folder, options, given.workers, _chance("crew", given)) as crew:
            troubling = asyncio.create_task(client.trouble(given.runs, given.poisons))
            weather = place.weather(given.terminate, lambda: _is_halfway(began, len(client.roots), given))
            torments = [crew.torment(given.every, stops=given.stops, freezes=given.freezes), *weather]
            tormenting = asyncio.gather(*torments)
            both: set[asyncio.Future[Any]] = {troubling, tormenting}
            await asyncio.wait(both, timeout=given.longest, return_when=asyncio.FIRST_COMPLETED)
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
    await _failure_detector(found, story, crew, place, folder)
    found.violations += blamed(story, given.poisons)
    found.seconds = time.monotonic() - began
    return found, story


async def _failure_detector(found: Found, story: Story, crew: Crew, place: Place, folder: Path) -> None:
    """Hold the story against the model, and measure."""
    story.lines = read_log(folder)
    last = {line.who: line.at for line in story.lines}
    killed = {**crew.toll.killed, **{who: last[who] for who in crew.toll.poisoned if who in last}}
    buried_alive = crew.buried_alive({**crew.toll.stopped, **killed})
    found.buried_alive = len(buried_alive - crew.toll.frozen.keys())
    story.stopped = crew.toll.everybody | buried_alive
    story.late = crew.toll.frozen.keys() | buried_alive
    found.violations += violations(story)
    if found.recovered:
        found.violations.append(f"I4: recover() found {found.recovered} runs that nothing would have moved")
    found.recovery = recovery_in(story, crew.toll, killed, place.outages)
    found.figures = await place.figures()
    found.violations += place.faults(found.figures)


def _is_halfway(began: float, started: int, given: argparse.Namespace) -> bool:
    longest: float = given.longest
    runs: int = given.runs
    return started * 2 >= runs or time.monotonic() - began > longest / 2


def _chance(who: str, given: argparse.Namespace) -> random.Random:
    return random.Random(f"{who} {given.seed}")  # noqa: S311 - guards nothing


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
        "seconds between kills": _pace(found.toll),
        "workers killed by a poison step": len(found.toll.poisoned),
        "runs failed by max_crashes": sum(
            run.error is not None and run.error.type == "CrashLimit" for run in story.snapshots.values()
        ),
        "clean stops": len(found.toll.stopped),
        "freezes": len(found.toll.frozen),
        "client": dict(sorted(found.client.items())),
        "handler calls": len(calls),
        "handler calls repeated": len(calls) - len(once),
        "workers buried alive": found.buried_alive,
        **found.figures,
        "calls cut off by kills": found.recovery.cut_off,
        **_seconds("until the call began again", found.recovery.calls),
        **_seconds("until the run had an entry more", found.recovery.entries),
        "recover() gave": found.recovered,
        "violations": found.violations,
    }


def _pace(toll: Toll) -> float | None:
    blows = sorted([*toll.killed.values(), *toll.stopped.values(), *toll.frozen.values()])
    return round((blows[-1] - blows[0]) / (len(blows) - 1), 3) if len(blows) > 1 else None


def _seconds(what: str, measured: list[float]) -> dict[str, float | None]:
    """The median and the worst."""
    return {
        f"{what}, median s": round(statistics.median(measured), 3) if measured else None,
        f"{what}, worst s": round(max(measured), 3) if measured else None,
    }


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=time.time_ns() // 1000 % 1_000_000)
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL server of its own")
    parser.add_argument("--runs", type=int, default=300, help="roots; their children come on top")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--every", type=float, default=0.3, help="seconds between two kills, on average")
    cut = "seconds between two terminated backends, on average"
    parser.add_argument("--terminate", type=float, default=0.5, help=cut)
    parser.add_argument("--stops", type=float, default=0.08, help="the share of SIGTERM among the kills")
    parser.add_argument("--freezes", type=float, default=0.03, help="the share of SIGSTOP among the kills")
    parser.add_argument("--poisons", type=int, default=2, help="runs with a step that kills its worker, always")
    crashes = "above the default: at this rate of kills five may hit one long call by chance alone"
    parser.add_argument("--max-crashes", type=int, default=12, help=crashes)
    parser.add_argument("--lease", type=float, default=1.0)
    parser.add_argument("--concurrency", type=int, default=8)
    longer = (
        "the share of calls of 0.1 to 0.4 s, by default none with --postgres and else 0.05; others take 0 to 0.03 s"
    )
    parser.add_argument("--long-calls", type=float, help=longer)
    parser.add_argument("--unit", type=float, default=0.2, help="how long things wait in the workflows, in seconds")
    parser.add_argument("--longest", type=float, default=1200.0, help="seconds after which nobody is killed any more")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    if given.long_calls is None:
        given.long_calls = 0.0 if given.postgres else 0.05
    return given


def main() -> int:
    """Play and print; the exit status."""
    given = arguments()
    with tempfile.TemporaryDirectory(prefix="stepwell-torture-") as folder:
        place: Place = ServerPlace(_chance("server", given)) if given.postgres else FilePlace(Path(folder))
        try:
            told = report(*asyncio.run(play(Path(folder), place, given)))
        finally:
            place.remove()
    if given.json:
        print(json.dumps(told))
    else:
        for name, value in told.items():
            print(f"{name:42} {value}" if name != "violations" else f"{name:42} {len(value)}")
        print("\n".join(told["violations"]))
    return 1 if told["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
