"""The cases: what is measured, by which program, beside what, and how much of it in each size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

SQLITE, POSTGRES = STORES = ("sqlite", "postgres")
STORE_NAMES = {SQLITE: "SQLite", POSTGRES: "PostgreSQL"}
SIZES = ("tiny", "short", "full")
ROUNDS = {"tiny": 1, "short": 3, "full": 7}


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a case: its key in what a program gives, its name, its unit, and whether more of it is better."""

    key: str
    unit: str
    name: str = ""
    more_is_better: bool = False
    digits: int = 1


@dataclass(frozen=True, slots=True)
class Limit:
    """What stands beside ours in the same rounds: another program, or ours with other options."""

    program: str
    name: str = "raw limit"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case; `program` is `MODULE:FUNCTION`, called with the URL of a fresh store and the options it names.

    `options` are those of the size "short"; `tiny` and `full` are what differs there. `peers` names a program for each
    peer that can do the same work.
    """

    name: str
    title: str
    program: str
    metrics: tuple[Metric, ...]
    options: Mapping[str, Any]
    tiny: Mapping[str, Any]
    full: Mapping[str, Any] = field(default_factory=dict)
    limit: Limit | None = None
    stores: tuple[str, ...] = STORES
    peers: Mapping[str, str] = field(default_factory=dict)

    def sized(self, size: str) -> dict[str, Any]:
        """The options of that size."""
        return {**self.options, **{"tiny": self.tiny, "short": {}, "full": self.full}[size]}


STEPS_PER_SECOND = Metric("steps_per_second", "steps/s", more_is_better=True, digits=0)
LOOP = Metric("loop_micros", "µs/step", "CPU of the loop")
PROCESS = Metric("process_micros", "µs/step", "CPU of the process")

CASES = (
    Case(
        name="drain",
        title="drain 1,000 runs of 10 steps, one worker",
        program="ours.drain:drained",
        metrics=(STEPS_PER_SECOND, LOOP, PROCESS),
        options={"runs": 1_000},
        tiny={"runs": 10},
        full={"runs": 2_000},
        limit=Limit("limits.writes:drained"),
    ),
    Case(
        name="drain-two",
        title="the same, two worker processes",
        program="ours.drain:drained_by_processes",
        metrics=(STEPS_PER_SECOND,),
        options={"runs": 1_000, "workers": 2},
        tiny={"runs": 10},
        full={"runs": 2_000},
        limit=Limit("ours.drain:drained_by_processes", "one worker", {"workers": 1}),
    ),
    Case(
        name="drain-two-computing",
        title="two workers, handlers that compute 300 µs",
        program="ours.drain:drained_by_processes",
        metrics=(STEPS_PER_SECOND,),
        options={"runs": 1_000, "workers": 2, "compute_micros": 300},
        tiny={"runs": 10},
        limit=Limit("ours.drain:drained_by_processes", "one worker", {"workers": 1}),
    ),
    Case(
        name="large-results",
        title="drain 100 runs of 10 steps, results of 100 KB",
        program="ours.drain:drained",
        metrics=(STEPS_PER_SECOND,),
        options={"runs": 100, "result_bytes": 100_000, "concurrency": 25},
        tiny={"runs": 2},
        limit=Limit("limits.writes:drained"),
    ),
)
CASES_BY_NAME = {case.name: case for case in CASES}
