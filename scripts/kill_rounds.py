"""Kills workers with SIGKILL while they work on runs in one file, then compares the journal with the handlers' own log.

`python scripts/kill_rounds.py --kills 50 --runs 200` prints how many kills had handlers in flight and how long the next
worker took to its first new journal entry; it exits non-zero if a run did not end or if anything differs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell import Durable, Retry, durable

if TYPE_CHECKING:
    from stepwell import Context, Entry, Workflow

CONCURRENCY = 32
TURNS = 3
CALLS_PER_RUN = 9 + TURNS - 1
"""Handler calls of one run that nothing interrupts: 8 places, one of them with a failed attempt, and the turns."""
MOST_KILLS = 1_000
SHARE_BETWEEN_KILLS = 0.6
"""How much of the work that is left a worker may do, times the kills that are left, before it is killed."""
PATIENCE_SECONDS = 120.0
EXPECTED: Counter[tuple[str, str, int | None]] = Counter(
    [("reserve", "step", None), ("email", "step", None), ("sms", "step", None), ("rest", "sleep", None)]
    + [("poll", "step", number) for number in range(1, TURNS + 1)]
    + [("flaky", "step", None), ("ship", "route", None), ("ship", "step", None), ("close", "step", None)]
)
"""The outcomes in the journal of a run that has ended, each once."""


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the handlers' log: a call that begins or ends, with the token it returns and the results it saw."""

    event: str
    pid: int
    run_id: str
    node: str
    iteration: int | None
    attempt: int
    token: str
    seen: dict[str, Any]

    @property
    def place(self) -> tuple[str, str, int | None]:
        """What there is one outcome of: run, node, iteration."""
        return self.run_id, self.node, self.iteration


class HandlersLog:
    """An append-only file that the handlers of every process write, one whole line at a time."""

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder / "handlers.log", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._at = 0
        self._rest = b""
        self._calls: list[Call] = []

    def write(self, call: Call) -> None:
        """Append the line; the kernel has it when this returns, so SIGKILL does not lose it."""
        os.write(self._descriptor, json.dumps(asdict(call)).encode() + b"\n")

    def calls(self) -> list[Call]:
        """Every line so far, in order."""
        while more := os.pread(self._descriptor, 1_000_000, self._at):
            self._at += len(more)
            *lines, self._rest = (self._rest + more).split(b"\n")
            self._calls += [Call(**json.loads(line)) for line in lines]
        return self._calls


def order(folder: Path) -> Workflow:
    """A workflow over all node kinds that need no other run; its handlers return a token that is told to the log."""
    log = HandlersLog(folder)
    made = 0

    def begin(ctx: Context) -> Call:
        nonlocal made
        made += 1
        token = f"{os.getpid()}-{made}"
        call = Call("begin", os.getpid(), ctx.run_id, ctx.step, ctx.iteration, ctx.attempt, token, dict(ctx.results))
        log.write(call)
        return call

    def end(call: Call) -> str:
        log.write(Call("end", call.pid, call.run_id, call.node, call.iteration, call.attempt, call.token, {}))
        return call.token

    async def work(ctx: Context) -> str:
        call = begin(ctx)
        await asyncio.sleep(random.uniform(0.005, 0.03))  # noqa: S311 - the length of a pretended call guards nothing
        return end(call)

    def work_in_a_thread(ctx: Context) -> str:
        call = begin(ctx)
        time.sleep(random.uniform(0.005, 0.03))  # noqa: S311 - as above
        return end(call)

    async def one_iteration(_: Any, ctx: Context) -> str:
        return await work(ctx)

    async def work_at_the_second_attempt(ctx: Context) -> str:
        token = await work(ctx)
        if ctx.attempt == 1:
            raise Retry("the first attempt always fails", after=0.01)
        return token

    def choose(ctx: Context) -> str:
        return "air" if ctx.input["number"] % 2 else "sea"

    flow: Workflow = (
        durable("order")
        .step("reserve", work)
        .parallel("notify", {"email": work, "sms": work_in_a_thread})
        .loop("poll", one_iteration, max_iterations=TURNS, pause=0.01)
        .sleep("rest", 0.02)
        .step("flaky", work_at_the_second_attempt)
        .route("ship", choose, {"air": work, "sea": work_in_a_thread})
        .step("close", work)
    )
    return flow


def app_in(folder: Path) -> Durable:
    """An app on the file in the folder, with default settings."""
    # kills from outside have no cause among the runs: one of them may share every death, and must not fail for it
    return Durable(f"sqlite:///{folder / 'store.db'}", [order(folder)], max_crashes=MOST_KILLS)


async def be_a_worker(folder: Path) -> None:
    """Work until standard input ends, or until killed."""
    async with app_in(folder) as app, app.worker(concurrency=CONCURRENCY):
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


@dataclass(slots=True)
class Found:
    """What the rounds showed."""

    runs: int
    kills: list[tuple[int, datetime, datetime]] = field(default_factory=list)
    in_flight: list[int] = field(default_factory=list)
    seconds_to_next_entry: list[float] = field(default_factory=list)
    calls: int = 0
    repeated: int = 0
    differences: list[str] = field(default_factory=list)


def start_worker(folder: Path) -> subprocess.Popen[bytes]:
    """A worker process on the folder's file."""
    return subprocess.Popen([sys.executable, __file__, "--worker", str(folder)], stdin=subprocess.PIPE)


def end_worker(process: subprocess.Popen[bytes], *, kill: bool) -> None:
    """End a worker process, by SIGKILL or by the end of its input, and wait until it is gone."""
    if kill:
        process.kill()
    if process.stdin is not None:
        process.stdin.close()
    process.wait(PATIENCE_SECONDS)


def quota_of(calls: list[Call], found: Found, asked: int) -> int:
    """How many calls the next worker may end before it is killed, so that work is left for all the kills to come."""
    ended = {(*call.place, call.attempt) for call in calls if call.event == "end"}
    left = found.runs * CALLS_PER_RUN - len(ended)
    return max(1, int(left * SHARE_BETWEEN_KILLS / (asked - len(found.kills))))


def is_worth_killing(calls: list[Call], pid: int, quota: int) -> bool:
    """Whether the worker has done its share of the work and has handlers in flight."""
    begun = {call.token for call in calls if call.pid == pid and call.event == "begin"}
    ended = {call.token for call in calls if call.pid == pid and call.event == "end"}
    return len(ended) >= quota and bool(begun - ended)


async def kill_one(folder: Path, log: HandlersLog, found: Found, asked: int) -> bool:
    """Start a worker and kill it when it is worth it; False if the runs ended before that."""
    quota = quota_of(log.calls(), found, asked)
    process = start_worker(folder)
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        while not is_worth_killing(calls := log.calls(), process.pid, quota):
            if process.poll() is not None or time.monotonic() > deadline:
                found.differences.append(f"worker {process.pid} ended or stood still by itself")
                return False
            if len({call.run_id for call in calls if call.event == "end" and call.node == "close"}) == found.runs:
                return False
            await asyncio.sleep(0.002)
    finally:
        before = datetime.now(UTC)
        end_worker(process, kill=True)
        found.kills.append((process.pid, before, datetime.now(UTC)))
    return True


async def run_rounds(folder: Path, kills: int, runs: int) -> Found:
    """Start the runs, kill workers, let the last worker end them all, and compare."""
    found, log = Found(runs), HandlersLog(folder)
    async with app_in(folder) as app:
        started = [each.run_id for each in await app.start_many("order", [{"number": n} for n in range(runs)])]
        while len(found.kills) < kills and await kill_one(folder, log, found, kills):
            print(f"kill {len(found.kills)} of {kills}", file=sys.stderr)
        spared = start_worker(folder)
        journals = {}
        try:
            for run_id in started:
                try:
                    await app.result(run_id, timeout=PATIENCE_SECONDS)
                except Exception as problem:  # noqa: BLE001 - whatever kept a run from its end is what is looked for
                    found.differences.append(f"run {run_id}: {type(problem).__name__}: {problem}")
                journals[run_id] = await app.journal(run_id)
        finally:
            end_worker(spared, kill=False)
    compare(found, journals, log.calls())
    return found


def compare(found: Found, journals: dict[str, list[Entry]], calls: list[Call]) -> None:
    """Compare the journals with the log, and count the interrupted and repeated calls."""
    outcome: dict[tuple[str, str, int | None], str] = {}
    for run_id, entries in journals.items():
        done = [entry for entry in entries if entry.status in ("completed", "failed", "skipped")]
        places = Counter((entry.node, str(entry.kind), entry.iteration) for entry in done)
        if places != EXPECTED or {entry.status for entry in done} != {"completed"}:
            differs = (places - EXPECTED, EXPECTED - places)
            found.differences.append(f"run {run_id}: outcomes too many, outcomes missing: {differs}")
        retries = [(entry.node, entry.attempt) for entry in entries if entry.status == "retrying"]
        if retries != [("flaky", 1)]:
            found.differences.append(f"run {run_id}: failed attempts {retries}")
        outcome |= {(run_id, entry.node, entry.iteration): entry.result for entry in done if entry.kind == "step"}
    compare_tokens(found, outcome, calls)
    killed = {pid for pid, _, _ in found.kills}
    compare_repetitions(found, outcome, [call for call in calls if call.event == "begin"], killed)
    ended = {call.token for call in calls if call.event == "end"}
    found.in_flight = [
        sum(call.event == "begin" and call.pid == pid and call.token not in ended for call in calls)
        for pid, _, _ in found.kills
    ]
    finished = sorted(entry.finished_at for entries in journals.values() for entry in entries)
    for _, before, after in found.kills:
        first = next((at for at in finished if at > after), None)
        if first is not None:
            found.seconds_to_next_entry.append((first - before) / timedelta(seconds=1))


def compare_tokens(found: Found, outcome: dict[tuple[str, str, int | None], str], calls: list[Call]) -> None:
    """Every journaled result was returned by a handler, and every handler saw only journaled results."""
    returned = defaultdict[tuple[str, str, int | None], set[str]](set)
    for call in calls:
        if call.event == "end":
            returned[call.place].add(call.token)
    for place, token in outcome.items():
        if token not in returned[place]:
            found.differences.append(f"{place}: journaled {token}, returned {sorted(returned[place])}")
    for call in calls:
        for name, token in call.seen.items():
            journaled = outcome.get((call.run_id, name, TURNS if name == "poll" else None))
            if name != "rest" and token != journaled:
                found.differences.append(f"{call.place} saw {name} = {token}, journaled is {journaled}")


def compare_repetitions(
    found: Found, outcome: dict[tuple[str, str, int | None], str], begun: list[Call], killed: set[int]
) -> None:
    """What was begun again was begun by a worker that was killed, and is not what the journal has."""
    attempts = defaultdict[tuple[str, str, int | None, int], list[Call]](list)
    for call in begun:
        attempts[(*call.place, call.attempt)].append(call)
    for calls in attempts.values():
        *earlier, last = calls
        found.repeated += len(earlier)
        if not {call.pid for call in earlier} <= killed or len({call.pid for call in calls}) != len(calls):
            found.differences.append(f"{last.place}: begun again without a crash: {[call.token for call in calls]}")
        if outcome.get(last.place) in {call.token for call in earlier}:
            found.differences.append(f"{last.place}: begun again after it was journaled: {outcome[last.place]}")
    found.calls = len(begun)


def report(found: Found, asked: int) -> dict[str, Any]:
    """What is printed, as one value."""
    times = found.seconds_to_next_entry
    return {
        "runs": found.runs,
        "kills": len(found.kills),
        "kills_asked": asked,
        "kills_with_handlers_in_flight": sum(count > 0 for count in found.in_flight),
        "handlers_in_flight_at_kills": sum(found.in_flight),
        "handler_calls": found.calls,
        "handler_calls_repeated": found.repeated,
        "seconds_to_next_entry_median": round(statistics.median(times), 3) if times else None,
        "seconds_to_next_entry_most": round(max(times), 3) if times else None,
        "differences": found.differences,
    }


def main() -> int:
    """Read the arguments, run the rounds and print the result; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--worker", type=Path, metavar="FOLDER", help="be one of the workers")
    given = parser.parse_args()
    if given.worker is not None:
        asyncio.run(be_a_worker(given.worker))
        return 0
    with tempfile.TemporaryDirectory(prefix="stepwell-kills-") as folder:
        told = report(asyncio.run(run_rounds(Path(folder), given.kills, given.runs)), given.kills)
    if given.json:
        print(json.dumps(told))
    else:
        for name, value in told.items():
            print(f"{name.replace('_', ' '):32} {value}")
    return 1 if told["differences"] or told["kills"] < given.kills else 0


if __name__ == "__main__":
    sys.exit(main())
