"""Tortures workers on one store and compares what happened with a model that shares no code with the engine.

`python -m scripts.torture --runs 300 --workers 3` starts random workflows over all kinds of nodes, with three
levels of children, on a SQLite file. It kills a worker every 300 ms on average, stops and freezes some, and meanwhile
sends signals, resumes and cancels. With `--postgres` it uses its own server, terminates backends at random, and
restarts the server in immediate mode halfway. The exit code is not 0 if a run did not end as its input requires, or if
an invariant is violated.
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

from scripts.torture_parts.recovery import Recovery, recovery_in
from scripts.torture_parts.targets import FileTarget, ServerTarget, Target
from scripts.torture_parts.worker import LOG, Options, app_of, designs_of, read_log
from scripts.torture_parts.worker_processes import Disruptions, WorkerProcesses
from tests.simulation.check import violations
from tests.simulation.client import Client, Manner, tell
from tests.simulation.trace import Trace

PATIENCE_SECONDS = 60.0
"""The time that the runs may take once the kills have stopped."""


@dataclass(slots=True)
class Found:
    """The results of the torture."""

    seed: int
    seconds: float = 0.0
    client: Counter[str] = field(default_factory=Counter)
    disruptions: Disruptions = field(default_factory=Disruptions)
    recovered: int = -1
    expired_alive: int = 0
    recovery: Recovery = field(default_factory=Recovery)
    figures: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)


async def torture(folder: Path, target: Target, given: argparse.Namespace) -> tuple[Found, Trace]:
    """Torture the workers until all runs have ended or the time is over, then check."""
    crashes, long_calls = given.max_crashes, given.long_calls
    options = Options(target.url, given.seed, given.unit, given.lease, crashes, given.concurrency, long_calls)
    found, began = Found(given.seed), time.monotonic()
    trace = Trace(designs_of(options))
    (folder / LOG).touch()
    async with app_of(options, _NoCalls()) as app:
        client = Client(app, trace, _chance("client", given), time.time, Manner())
        async with WorkerProcesses(folder, options, given.workers, _chance("workers", given)) as workers:
            acting = asyncio.create_task(client.act(given.runs, given.poisons))
            of_target = target.fault_loops(given.terminate, lambda: _is_halfway(began, len(client.roots), given))
            fault_loops = [workers.disrupt(given.every, stops=given.stops, freezes=given.freezes), *of_target]
            injecting = asyncio.gather(*fault_loops)
            both: set[asyncio.Future[Any]] = {acting, injecting}
            await asyncio.wait(both, timeout=given.longest, return_when=asyncio.FIRST_COMPLETED)
            injecting.cancel()
            await asyncio.wait({injecting})
            await workers.thaw_all()
            await asyncio.wait({acting}, timeout=PATIENCE_SECONDS)
            acting.cancel()
            for ended in (acting, injecting):
                with contextlib.suppress(asyncio.CancelledError):
                    await ended
            found.recovered = await app.recover()
            await tell(app, trace)
        found.violations += [*client.done.faults, *workers.disruptions.faults]
        found.client, found.disruptions = client.done.counts, workers.disruptions
        if workers.disruptions.faults:
            print(workers.stderr[-4000:], file=sys.stderr)
    await _failure_detector(found, trace, workers, target, folder)
    found.violations += blamed(trace, given.poisons)
    found.seconds = time.monotonic() - began
    return found, trace


async def _failure_detector(found: Found, trace: Trace, workers: WorkerProcesses, target: Target, folder: Path) -> None:
    """Compare the trace with the model, and measure."""
    trace.lines = read_log(folder)
    last = {line.who: line.at for line in trace.lines}
    killed = {**workers.disruptions.killed, **{who: last[who] for who in workers.disruptions.poisoned if who in last}}
    expired_alive = workers.expired_alive({**workers.disruptions.stopped, **killed})
    found.expired_alive = len(expired_alive - workers.disruptions.frozen.keys())
    trace.stopped = workers.disruptions.all_workers | expired_alive
    trace.late = workers.disruptions.frozen.keys() | expired_alive
    found.violations += violations(trace)
    if found.recovered:
        found.violations.append(f"I4: recover() found {found.recovered} runs that nothing would have moved")
    found.recovery = recovery_in(trace, workers.disruptions, killed, target.outages)
    found.figures = await target.figures()
    found.violations += target.faults(found.figures)


def _is_halfway(began: float, started: int, given: argparse.Namespace) -> bool:
    longest: float = given.longest
    runs: int = given.runs
    return started * 2 >= runs or time.monotonic() - began > longest / 2


def _chance(who: str, given: argparse.Namespace) -> random.Random:
    return random.Random(f"{who} {given.seed}")  # noqa: S311 - guards nothing


class _NoCalls:
    """The handlers of the client's app, which must not be called, since the client runs no worker."""

    def begins(self, *_: object) -> str:
        raise AssertionError("the client must not run handlers")

    def ends(self, *_: object) -> None:
        raise AssertionError("the client must not run handlers")

    async def works(self, *_: object) -> None:
        raise AssertionError("the client must not run handlers")

    def works_plainly(self) -> None:
        raise AssertionError("the client must not run handlers")


def blamed(trace: Trace, poisons: int) -> list[str]:
    """Runs that were failed for the death of workers although none of their steps kills a worker."""
    found = []
    for run_id, run in trace.snapshots.items():
        crashed = any(entry.error is not None and entry.error.type == "CrashLimit" for entry in trace.journals[run_id])
        if crashed and "poison" not in run.input:
            own = [line for line in trace.lines if line.run_id == run_id and line.event == "begin"]
            last = [(line.who, round(line.at, 2)) for line in own if own[-1].key == line.key]
            found.append(
                f"max_crashes: {run_id} has no poison step, but was failed after calls by {last}; poisons: {poisons}"
            )
    return found


def report(found: Found, trace: Trace) -> dict[str, Any]:
    """The report that is printed, as one value."""
    calls = [line for line in trace.lines if line.event == "begin" and line.phase in {"do", "undo"}]
    once = {(line.key, line.phase, line.attempt) for line in calls}
    depth = Counter(trace.designs[run.workflow_name].level for run in trace.snapshots.values())
    kinds = Counter(entry.kind for journal in trace.journals.values() for entry in journal)
    return {
        "seed": found.seed,
        "seconds": round(found.seconds, 1),
        "runs": dict(depth),
        "ended": dict(Counter(str(run.status) for run in trace.snapshots.values())),
        "journal entries": dict(kinds),
        "kills": len(found.disruptions.killed),
        "seconds between kills": _pace(found.disruptions),
        "workers killed by a poison step": len(found.disruptions.poisoned),
        "runs failed by max_crashes": sum(
            run.error is not None and run.error.type == "CrashLimit" for run in trace.snapshots.values()
        ),
        "clean stops": len(found.disruptions.stopped),
        "freezes": len(found.disruptions.frozen),
        "client": dict(sorted(found.client.items())),
        "handler calls": len(calls),
        "handler calls repeated": len(calls) - len(once),
        "workers declared dead while alive": found.expired_alive,
        **found.figures,
        "calls interrupted by kills": found.recovery.interrupted,
        **_seconds("until the call started again", found.recovery.calls),
        **_seconds("until the run had another entry", found.recovery.entries),
        "recover() found": found.recovered,
        "violations": found.violations,
    }


def _pace(disruptions: Disruptions) -> float | None:
    times = sorted([*disruptions.killed.values(), *disruptions.stopped.values(), *disruptions.frozen.values()])
    return round((times[-1] - times[0]) / (len(times) - 1), 3) if len(times) > 1 else None


def _seconds(what: str, measured: list[float]) -> dict[str, float | None]:
    """The median and the worst."""
    return {
        f"{what}, median s": round(statistics.median(measured), 3) if measured else None,
        f"{what}, worst s": round(max(measured), 3) if measured else None,
    }


def arguments() -> argparse.Namespace:
    """The parsed arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=time.time_ns() // 1000 % 1_000_000)
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL server of its own")
    parser.add_argument("--runs", type=int, default=300, help="root runs; their children are additional")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--every", type=float, default=0.3, help="seconds between two kills, on average")
    between = "seconds between two terminated backends, on average"
    parser.add_argument("--terminate", type=float, default=0.5, help=between)
    parser.add_argument("--stops", type=float, default=0.08, help="share of SIGTERM among the kills")
    parser.add_argument("--freezes", type=float, default=0.03, help="share of SIGSTOP among the kills")
    parser.add_argument("--poisons", type=int, default=2, help="runs with a step that always kills its worker")
    crashes = "higher than stepwell's default, since at this rate five kills may hit one long call by chance"
    parser.add_argument("--max-crashes", type=int, default=12, help=crashes)
    parser.add_argument("--lease", type=float, default=1.0)
    parser.add_argument("--concurrency", type=int, default=8)
    longer = "share of calls that take 0.1 to 0.4 s (others: 0 to 0.03 s); default: 0.05, or 0 with --postgres"
    parser.add_argument("--long-calls", type=float, help=longer)
    parser.add_argument("--unit", type=float, default=0.2, help="unit of the waits in the workflows, in seconds")
    parser.add_argument("--longest", type=float, default=1200.0, help="seconds after which the kills stop")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    if given.long_calls is None:
        given.long_calls = 0.0 if given.postgres else 0.05
    return given


def main() -> int:
    """Run the torture and print the report; returns the exit status."""
    given = arguments()
    with tempfile.TemporaryDirectory(prefix="stepwell-torture-") as folder:
        target: Target = ServerTarget(_chance("server", given)) if given.postgres else FileTarget(Path(folder))
        try:
            printed = report(*asyncio.run(torture(Path(folder), target, given)))
        finally:
            target.remove()
    if given.json:
        print(json.dumps(printed))
    else:
        for name, value in printed.items():
            print(f"{name:42} {value}" if name != "violations" else f"{name:42} {len(value)}")
        print("\n".join(printed["violations"]))
    return 1 if printed["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
