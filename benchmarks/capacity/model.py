"""The capacity model: from counted costs and a load to workers, database, WAL and disk. Pure arithmetic.

Every cost is a share for each statement, each step and each run: statement * statements + step * steps + run * runs.
It is fitted to loads of different lengths and concurrencies, in which all three were counted. Of what is written only
the commits count as statements: reads write nothing. How many a load needs depends on how many runs share a commit: a
worker sends the next commit when the last is answered, so a commit takes as many outcomes as arrive during one:
batch = rate * latency(batch), and at least 1.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SECONDS_A_DAY = 86_400
HINTS_A_SECOND, LOOKS_A_SECOND = 100.0, 66.0
WRITTEN = frozenset({"wal_bytes", "disk_bytes", "written_bytes"})
FITTED = ("worker_micros", "database_micros", "wal_bytes", "disk_bytes", "written_bytes")


@dataclass(frozen=True, slots=True)
class Cost:
    """A cost in shares for each statement (or commit), step and run."""

    statement: float
    step: float
    run: float
    by_commits: bool = False

    def of(self, statements: float, steps: float, runs: float) -> float:
        """The cost of so many."""
        return self.statement * statements + self.step * steps + self.run * runs


@dataclass(frozen=True, slots=True)
class Load:
    """What has to be worked off, and what a handler needs; `peak`: how many times the mean the busiest hour is."""

    runs_a_day: float
    steps: float
    peak: float = 3.0
    handler_seconds: float = 0.1
    handler_micros: float = 0.0
    result_bytes: float = 100.0
    keep_days: float = 30.0
    concurrency: float = 100.0
    busy_share: float = 0.6


@dataclass(frozen=True, slots=True)
class Answer:
    """What the load needs; rates are those of the peak."""

    workers: int
    worker_busy: float
    batch: float
    statements_a_second: float
    database_cores: float
    wal_megabytes_a_second: float
    wal_gigabytes_a_day: float
    disk_gigabytes_a_day: float
    disk_gigabytes_kept: float
    connections: int


@dataclass(frozen=True, slots=True)
class Model:
    """The counted costs of one store; `costs` by what they are, `start` for one start alone."""

    costs: Mapping[str, Cost]
    start: Mapping[str, float]
    idle: Mapping[str, float] = field(default_factory=dict)
    latency_seconds: float = 0.002
    latency_a_row_seconds: float = 0.00002
    statements_a_run: float = 2.0
    commits_a_run: float = 1.0
    batches: tuple[tuple[float, float], ...] = ((1.0, 1.0), (256.0, 256.0))
    """How many outcomes shared a statement when so many runs were in flight and nothing else waited."""

    def drained(self, runs: float, steps_a_run: float, concurrency: float) -> dict[str, float]:
        """What a worker spends that drains runs of trivial steps, so many at once; starting them is left out."""
        return self._spent(runs, steps_a_run, self._batch_of(concurrency))

    def _spent(self, runs: float, steps_a_run: float, batch: float) -> dict[str, float]:
        statements = runs * (steps_a_run + self.statements_a_run) / batch
        commits = runs * (steps_a_run + self.commits_a_run) / batch
        spent = {
            name: cost.of(commits if cost.by_commits else statements, runs * steps_a_run, runs)
            for name, cost in self.costs.items()
        }
        return {**spent, "batch": batch, "statements": statements}

    def _batch_of(self, concurrency: float) -> float:
        """Between two counted concurrencies the batch grows by the same power."""
        for (few, small), (more, large) in itertools.pairwise(self.batches):
            if concurrency <= more:
                power = math.log(concurrency / few) / math.log(more / few)
                return float(small * (large / small) ** power)
        return self.batches[-1][1]

    def batch(self, steps_a_second: float, steps_a_run: float) -> float:
        """How many outcomes share a statement in a worker of that rate: the least fixed point of the rule above."""
        rate = steps_a_second * (1 + self.statements_a_run / steps_a_run)
        spare = 1 - rate * self.latency_a_row_seconds
        return 256.0 if spare <= 0 else min(256.0, max(1.0, rate * self.latency_seconds / spare))

    def rates(self, runs_a_second: float, steps_a_run: float, workers: int) -> dict[str, float]:
        """What is spent each second, by what it is, of runs that are started one by one."""
        batch = self.batch(runs_a_second * steps_a_run / workers, steps_a_run)
        spent = self._spent(runs_a_second, steps_a_run, batch)
        for name, value in self.start.items():
            spent[name] = spent.get(name, 0.0) + value * runs_a_second
        hints = self.hints(runs_a_second, workers)
        for name in ("worker_micros", "database_micros"):
            each = self.idle.get(f"idle_{name}", 0.0) + self.idle.get(f"hint_{name}", 0.0) * hints
            spent[name] = spent.get(name, 0.0) + each * workers
        return spent

    def hints(self, runs_a_second: float, workers: int) -> float:
        """How often a second a worker looks because another process told it to.

        Starts and ends are told, by each process at most once in 10 ms; who is told looks at most once in 15 ms, and
        what it finds then is counted with the runs.
        """
        told = min(runs_a_second, HINTS_A_SECOND) + min(runs_a_second, HINTS_A_SECOND * (workers - 1))
        found = runs_a_second / workers
        return max(0.0, min(told, LOOKS_A_SECOND) - found)

    def answer(self, load: Load) -> Answer:
        """The fewest workers that are no busier than wanted at the peak, and what they ask of the database."""
        mean = load.runs_a_day / SECONDS_A_DAY
        peak = mean * load.peak
        workers = 1
        while True:
            spent = self.rates(peak, load.steps, workers)
            handlers = peak * load.steps * load.handler_micros
            busy = (spent["worker_micros"] + handlers) / workers / 1e6
            in_flight = peak * load.steps * load.handler_seconds / workers
            if busy <= load.busy_share and in_flight <= load.concurrency * load.busy_share:
                break
            workers = max(workers + 1, math.ceil(workers * min(busy / load.busy_share, 2.0)) if busy > 1 else 0)
        results = load.result_bytes * load.steps
        daily = self.rates(mean, load.steps, workers)
        disk = (daily.get("disk_bytes", 0.0) + mean * results) * SECONDS_A_DAY / 1e9
        return Answer(
            workers=workers,
            worker_busy=busy,
            batch=spent["batch"],
            statements_a_second=spent["statements"],
            database_cores=spent.get("database_micros", 0.0) / 1e6,
            wal_megabytes_a_second=(spent.get("wal_bytes", spent.get("written_bytes", 0.0)) + peak * results) / 1e6,
            wal_gigabytes_a_day=(daily.get("wal_bytes", daily.get("written_bytes", 0.0)) + mean * results)
            * SECONDS_A_DAY
            / 1e9,
            disk_gigabytes_a_day=disk,
            disk_gigabytes_kept=disk * load.keep_days,
            connections=math.ceil(workers * self.idle.get("connections", 0.0)),
        )


def fitted(name: str, drains: Sequence[Mapping[str, float]]) -> Cost:
    """The shares of a cost that fit the counted drains best, by their relative errors; none is below zero."""
    by_commits = name in WRITTEN
    rows = [(one["commits" if by_commits else "statements"], one["steps"], one["runs"]) for one in drains]
    wanted = [one[name] for one in drains]
    best, least = (0.0, 0.0, 0.0), math.inf
    for used in range(1, 8):
        kept = [column for column in range(3) if used >> column & 1]
        scaled = [
            ([row[column] / value for column in kept], 1.0) for row, value in zip(rows, wanted, strict=True) if value
        ]
        shares = _solved(scaled, len(kept))
        if shares is None or min(shares) < 0:
            continue
        error = sum((sum(a * b for a, b in zip(row, shares, strict=True)) - 1) ** 2 for row, _ in scaled)
        if error < least:
            found = dict(zip(kept, shares, strict=True))
            best, least = (found.get(0, 0.0), found.get(1, 0.0), found.get(2, 0.0)), error
    return Cost(*best, by_commits=by_commits)


def _solved(rows: Sequence[tuple[Sequence[float], float]], count: int) -> list[float] | None:
    """The least squares of some equations, by the normal equations and elimination; None if they do not tell."""
    matrix = [
        [sum(row[a] * row[b] for row, _ in rows) for b in range(count)] + [sum(row[a] * value for row, value in rows)]
        for a in range(count)
    ]
    for column in range(count):
        pivot = max(range(column, count), key=lambda at: abs(matrix[at][column]))
        if abs(matrix[pivot][column]) < 1e-18:
            return None
        matrix[column], matrix[pivot] = matrix[pivot], matrix[column]
        for at in range(count):
            if at != column:
                factor = matrix[at][column] / matrix[column][column]
                matrix[at] = [a - factor * b for a, b in zip(matrix[at], matrix[column], strict=True)]
    return [matrix[column][count] / matrix[column][column] for column in range(count)]


def model_of(counts: Mapping[str, Any]) -> Model:
    """The model of what was counted on one store."""
    drains = [one["work"] for one in counts["drains"]]
    costs = {name: fitted(name, drains) for name in FITTED if any(one.get(name) for one in drains)}
    lone = [one for one in drains if one["concurrency"] == 1]
    statements_a_run = max(0.0, sum((one["statements"] - one["steps"]) / one["runs"] for one in lone) / len(lone))
    commits_a_run = max(0.0, sum((one["commits"] - one["steps"]) / one["runs"] for one in lone) / len(lone))
    shared: dict[float, list[float]] = {}
    for one in drains:
        outcomes = one["steps"] + statements_a_run * one["runs"]
        shared.setdefault(one["concurrency"], []).append(outcomes / one["statements"])
    batches = tuple((at, sum(found) / len(found)) for at, found in sorted(shared.items()))
    latency = min(one["seconds"] / one["statements"] for one in lone)
    full = max(drains, key=lambda one: one["concurrency"] * one["steps"])
    row = max(0.0, full["seconds"] / full["statements"] - latency) / batches[-1][1]
    return Model(costs, counts["start"], counts.get("idle", {}), latency, row, statements_a_run, commits_a_run, batches)
