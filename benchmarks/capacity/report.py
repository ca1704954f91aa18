"""Counts, checks the model against two points, simulates, and says all of it; the counts are kept as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.capacity.fleet import Fleet, Simulation, saturation
from benchmarks.capacity.model import Load, Model, model_of
from benchmarks.cases import POSTGRES, SQLITE, STORE_NAMES
from benchmarks.child import call_in_child
from benchmarks.database import connected, database
from benchmarks.results import FOLDER, ResultError, begun
from benchmarks.stores import fresh_store, settle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FILE = FOLDER / "capacity.json"
STATEMENTS = ("claim", "commit", "notify", "start", "beat", "watch", "other")
SHOWN = (
    ("worker_micros", "worker CPU µs"),
    ("database_micros", "database CPU µs"),
    ("wal_bytes", "WAL bytes"),
    ("written_bytes", "written bytes"),
    ("disk_bytes", "disk bytes"),
)
EXAMPLES = ((100_000, 5), (1_000_000, 5), (10_000_000, 10), (100_000_000, 10))
FLEETS = (10, 100, 1_000)


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is counted: `scale` times the runs, `seconds` of idling and of a steady load."""

    scale: float
    seconds: float
    idle_workers: int
    rate: float


SHORT = Amount(scale=1.0, seconds=10.0, idle_workers=10, rate=40.0)
TINY = Amount(scale=0.02, seconds=1.0, idle_workers=2, rate=10.0)
DRAINS = ((1, 256, 3_000), (10, 256, 2_000), (1, 16, 1_500), (10, 16, 500))
"""Steps a run, runs at once, and how many."""
ONE_BY_ONE = ((1, 600), (10, 150))
"""Steps a run, and how many runs one after the other."""
CHECKED = (5, 64, 1_500)


def counted(amount: Amount, stores: tuple[str, ...] = (POSTGRES, SQLITE)) -> dict[str, Any]:
    """Every count, with the machine and the commit."""
    with contextlib.ExitStack() as stack:
        dsn = ""
        if POSTGRES in stores:
            dsn = stack.enter_context(database(shared_preload_libraries="pg_stat_statements", shared_buffers="1GB"))
            asyncio.run(_prepared(dsn))
        result = begun("capacity", {}, "PostgreSQL, with pg_stat_statements")
        found: dict[str, Any] = {"commit": result.commit, "taken_at": result.taken_at, "machine": result.machine}
        found["stores"] = {store: _store_counts(store, dsn, amount) for store in stores}
    return found


async def _prepared(dsn: str) -> None:
    async with connected(dsn) as connection:
        await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")


def _store_counts(store: str, dsn: str, amount: Amount) -> dict[str, Any]:
    def call(function: str, **options: Any) -> Any:
        if store == POSTGRES:
            settle(dsn)
        with fresh_store(store, dsn) as url:
            return call_in_child(f"capacity.loads:{function}", url=url, **options)

    def drained(steps: int, at_once: int, runs: int) -> Any:
        options = {"runs": max(4, int(runs * amount.scale)), "steps": steps, "concurrency": at_once}
        found = call("drained", **options)
        work = found["work"]
        # A file counts no statements: its commits are counted in another drain, by an observer.
        work["commits"] = work.get("commit_calls") or call("drained", **options, observed=True)["work"]["commits"]
        calls = sum(work.get(f"{kind}_calls", 0.0) for kind in STATEMENTS)
        work["statements"] = calls or work["commits"]
        return found

    def one_by_one(steps: int, runs: int) -> Any:
        """Without what their starts cost, which was counted alone."""
        work = call("one_by_one", runs=max(4, int(runs * amount.scale)), steps=steps)
        for name in ("worker_micros", "database_micros", "wal_bytes", "written_bytes"):
            if name in work:
                start = alone["client_micros" if name == "worker_micros" else name]
                work[name] = max(work[name] - start * work["runs"], work[name] / 10)
        calls = sum(work.get(f"{kind}_calls", 0.0) for kind in STATEMENTS if kind != "start")
        work["statements"] = calls or work["commits"]
        return {"work": work}

    alone = call("started_alone")
    drains = [*(drained(*drain) for drain in DRAINS), *(one_by_one(*drain) for drain in ONE_BY_ONE)]
    counts: dict[str, Any] = {"drains": drains, "checked": drained(*CHECKED)}
    most = counts["drains"][0]["start"]
    counts["start"] = {
        name: alone.get(name, 0.0) for name in ("client_micros", "database_micros", "wal_bytes", "written_bytes")
    }
    counts["start"]["disk_bytes"] = most.get("disk_bytes", 0.0) / most["runs"]
    if store == POSTGRES:
        hints = max(3, int(60 * amount.scale))
        counts["idle"] = call("idling", workers=amount.idle_workers, seconds=amount.seconds, hints=hints)
        options = {"workers": 2, "rate": amount.rate, "seconds": amount.seconds, "steps": 3, "wait": 0.02}
        counts["steady"] = {**options, **call("steady", **options)}
    return counts


def saved() -> dict[str, Any]:
    """The counts that are kept; raises ResultError if there are none."""
    if not FILE.exists():
        raise ResultError(f"No counts in {FILE}; `python -m benchmarks capacity --count` makes them.")
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def save(counts: Mapping[str, Any], path: Path = FILE) -> None:
    """Keeps the counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")


def counts_shown(counts: Mapping[str, Any]) -> Iterator[str]:
    """What a step and a run cost, as counted and as fitted."""
    machine = counts["machine"]
    yield f"stepwell {counts['commit']}, {counts['taken_at']}; {machine['cores']} cores, {machine['processor']},"
    yield f"a flush of 8 kB takes {machine['flush_milliseconds']} ms, load before {machine['load_before']}"
    for store, found in counts["stores"].items():
        names = [(name, title) for name, title in SHOWN if any(one["work"].get(name) for one in found["drains"])]
        yield ""
        yield f"{STORE_NAMES[store]}: counted, for each step"
        yield f"{'steps, at once':<24}{'statements':>12}" + "".join(f"{title:>19}" for _, title in names)
        for one in found["drains"]:
            work = one["work"]
            steps = work["steps"]
            label = f"{steps / work['runs']:g}, {work['concurrency']:g}"
            cells = "".join(f"{work[name] / steps:>19,.1f}" for name, _ in names)
            yield f"{label:<24}{work['statements'] / steps:>12.3f}{cells}"
        model = model_of(found)
        yield f"{STORE_NAMES[store]}: fitted shares"
        for share in ("statement", "step", "run"):
            cells = "".join(f"{getattr(model.costs[name], share):>19,.1f}" for name, _ in names)
            yield f"{'for each ' + share:<36}{cells}"
        start = found["start"]
        yield f"a start alone: {start['client_micros']:,.0f} µs of the client's CPU, " + (
            f"{start['database_micros']:,.0f} µs of the database's, {start['wal_bytes']:,.0f} bytes of WAL"
            if store == POSTGRES
            else f"{start['written_bytes']:,.0f} bytes written"
        )
        idle = found.get("idle")
        if idle:
            yield (
                f"an idle worker: {idle['connections']:.1f} connections, a second {idle['idle_database_micros']:,.0f} "
                f"µs of the database's CPU, {idle['idle_worker_micros']:,.0f} µs of its own"
            )
            yield (
                f"a hint of another process, for each worker that hears it: {idle['hint_database_micros']:,.0f} µs of "
                f"the database's CPU, {idle['hint_worker_micros']:,.0f} µs of its own, "
                f"{idle.get('hint_claim_calls', 0.0):.2f} claims"
            )


def checks_shown(counts: Mapping[str, Any]) -> Iterator[str]:
    """The model against two loads that it was not fitted to."""
    for store, found in counts["stores"].items():
        model, work = model_of(found), found["checked"]["work"]
        steps = work["steps"] / work["runs"]
        predicted = model.drained(work["runs"], steps, work["concurrency"])
        title = f"a drain of {work['runs']:,.0f} runs of {steps:g} steps, {work['concurrency']:g} at once"
        yield from _check(f"{STORE_NAMES[store]}: {title}", predicted, work)
        if "steady" in found:
            steady = found["steady"]
            seconds = steady["seconds"]
            measured = {name: steady.get(name, 0.0) / seconds for name, _ in SHOWN}
            measured["statements"] = sum(steady.get(f"{kind}_calls", 0.0) for kind in STATEMENTS) / seconds
            rate = steady["runs"] / seconds
            title = f"{rate:.0f} runs a second of {steady['steps']} steps, {steady['workers']} workers, for each second"
            yield from _check(
                f"{STORE_NAMES[store]}: {title}", model.rates(rate, steady["steps"], steady["workers"]), measured
            )


def _check(title: str, predicted: Mapping[str, float], measured: Mapping[str, float]) -> Iterator[str]:
    yield f"{title:<76}{'predicted':>12}{'measured':>12}{'ratio':>7}"
    for name, words in SHOWN:
        if name in predicted and measured.get(name):
            ratio = predicted[name] / measured[name]
            yield f"  {words:<74}{predicted[name]:>12,.0f}{measured[name]:>12,.0f}{ratio:>7.2f}"


def answer_shown(model: Model, load: Load, store: str) -> Iterator[str]:
    """What a load needs, in words."""
    found = model.answer(load)
    yield (
        f"{load.runs_a_day:,.0f} runs a day of {load.steps:g} steps on {STORE_NAMES[store]}; the busiest hour "
        f"{load.peak:g} times the mean; handlers take {load.handler_seconds:g} s, {load.handler_micros:g} µs of CPU"
    )
    yield (
        f"  workers: {found.workers} at a concurrency of {load.concurrency:g}, each {found.worker_busy:.0%} busy at "
        f"the peak; {found.batch:.1f} outcomes share a commit"
    )
    if store == POSTGRES:
        yield (
            f"  database: {found.database_cores:.2f} cores busy at the peak, {found.statements_a_second:,.0f} "
            f"statements and {found.wal_megabytes_a_second:.2f} MB of WAL a second, {found.connections} connections"
        )
    yield (
        f"  disk: {found.disk_gigabytes_a_day:.2f} GB a day, {found.disk_gigabytes_kept:,.0f} GB kept for "
        f"{load.keep_days:g} days; {found.wal_gigabytes_a_day:.1f} GB written ahead a day"
    )


def fleet_of(model: Model, counts: Mapping[str, Any], workers: int, runs_a_second: float, **changes: Any) -> Fleet:
    """The fleet that the simulation plays, with the costs of the model."""
    commit, idle = model.costs["database_micros"], model.idle
    claims = [one["work"] for one in counts["drains"] if one["work"].get("claim_calls") and one["work"]["runs"]]
    lone = min(claims, key=lambda one: one["concurrency"])
    options: dict[str, Any] = {
        "steps": 10,
        "start_cost": max(model.start["database_micros"], 50.0) / 1e6,
        "claim_cost": lone["claim_micros"] / lone["claim_calls"] / 1e6,
        "hint_cost": max(idle.get("hint_database_micros", 0.0), 50.0) / 1e6,
        "commit_cost": max(commit.statement, 50.0) / 1e6,
        "row_cost": (commit.step + commit.run / 10) / 1e6,
        "beat_cost": idle.get("idle_database_micros", 500.0) / 1e6,
        **changes,
    }
    return Fleet(workers=workers, runs_a_second=runs_a_second, **options)


def simulation_shown(
    counts: Mapping[str, Any], *, seconds: float = 2.0, fleets: tuple[int, ...] = FLEETS
) -> Iterator[str]:
    """Fleets under the same load, where each saturates, and what then helps the largest."""
    found = counts["stores"][POSTGRES]
    model = model_of(found)
    most = max(fleets)
    heads = ("start", "look", "claim", "commit", "beat")
    yield (
        f"{'20 runs a second of 10 steps, 8 cores':<40}{'busy':>6}"
        + "".join(f"{head:>8}" for head in heads)
        + (f"{'first step p50, p99 ms':>25}")
    )
    for workers in fleets:
        fleet = fleet_of(model, found, workers, 20.0, seconds=seconds)
        seen = Simulation(fleet).run()
        shares = "".join(f"{seen.share(head):>8.0%}" for head in heads)
        waits = f"{seen.wait(0.5) * 1e3:,.0f}, {seen.wait(0.99) * 1e3:,.0f}"
        yield f"{f'{workers:,} workers':<40}{seen.busy(fleet):>6.0%}{shares}{waits:>25}"
    yield ""
    yield f"{'the most runs a second of 10 steps, 8 cores':<64}{'runs/s':>10}{'steps/s':>10}"
    rows: list[tuple[str, int, dict[str, Any]]] = [(f"{workers:,} workers", workers, {}) for workers in fleets]
    rows += [
        (f"{most:,} workers, 32 cores", most, {"cores": 32}),
        (f"{most:,} workers, ten queues", most, {"queues": 10}),
        (f"{most:,} workers, a hundred queues", most, {"queues": 100}),
        (f"{most:,} workers, one hint a second from each process", most, {"hint_gap": 1.0}),
        (f"{most:,} workers without LISTEN, looking every second", most, {"listening": False}),
        (f"{most // 10:,} workers of a concurrency of 1,000", most // 10, {"concurrency": 1_000}),
    ]
    for title, workers, changes in rows:
        reached = _saturated(model, found, workers, {**changes, "seconds": seconds})
        yield f"{title:<64}{reached:>10,.0f}{10 * reached:>10,.0f}"


def _saturated(model: Model, counts: Mapping[str, Any], workers: int, changes: dict[str, Any]) -> float:
    return saturation(lambda runs: fleet_of(model, counts, workers, runs, **changes))


def whole(counts: Mapping[str, Any]) -> Iterator[str]:
    """All of it."""
    yield from counts_shown(counts)
    yield ""
    yield from checks_shown(counts)
    yield ""
    model = model_of(counts["stores"][POSTGRES])
    for runs, steps in EXAMPLES:
        yield from answer_shown(model, Load(runs, steps), POSTGRES)
    yield ""
    yield from simulation_shown(counts)
