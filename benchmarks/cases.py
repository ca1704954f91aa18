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

    `options` are those of the size "short"; `tiny` and `full` are what differs there. `prepare` fills each contender's
    store once, which then stays for all rounds. `peers` names a program for each peer that can do the same work.
    """

    name: str
    title: str
    program: str
    metrics: tuple[Metric, ...]
    options: Mapping[str, Any]
    tiny: Mapping[str, Any]
    full: Mapping[str, Any] = field(default_factory=dict)
    limit: Limit | None = None
    prepare: str | None = None
    most_rounds: int | None = None
    stores: tuple[str, ...] = STORES
    peers: Mapping[str, int] = field(default_factory=dict)
    peers_on_sqlite: Mapping[str, int] = field(default_factory=dict)

    def sized(self, size: str) -> dict[str, Any]:
        """The options of that size."""
        return {**self.options, **{"tiny": self.tiny, "short": {}, "full": self.full}[size]}


STEPS_PER_SECOND = Metric("steps_per_second", "steps/s", more_is_better=True, digits=0)
LOOP = Metric("loop_micros", "µs/step", "CPU of the loop")
PROCESS = Metric("process_micros", "µs/step", "CPU of the process")
P50 = Metric("p50_ms", "ms", "p50", digits=2)
P99 = Metric("p99_ms", "ms", "p99", digits=2)
SECONDS = Metric("seconds", "s", digits=3)
ONE_WORKER = Limit("ours.drain:drained_by_processes", "one worker", {"workers": 1})

CASES = (
    Case(
        name="drain",
        title="drain of 1,000 runs of 10 steps, one worker",
        program="ours.drain:drained",
        metrics=(STEPS_PER_SECOND, LOOP, PROCESS),
        options={"runs": 1_000},
        tiny={"runs": 10},
        full={"runs": 2_000},
        limit=Limit("limits.writes:drained"),
        peers={"dbos": 100, "restate": 500, "absurd": 150},
        peers_on_sqlite={"dbos": 50},
    ),
    Case(
        name="drain-typed",
        title="the same with a typed input and results",
        program="ours.typed:drained",
        metrics=(STEPS_PER_SECOND, LOOP, PROCESS),
        options={"runs": 1_000},
        tiny={"runs": 10},
        full={"runs": 2_000},
        limit=Limit("ours.typed:drained", "plain JSON", {"is_typed": False}),
    ),
    Case(
        name="drain-two",
        title="the same by two worker processes",
        program="ours.drain:drained_by_processes",
        metrics=(STEPS_PER_SECOND,),
        options={"runs": 1_000, "workers": 2},
        tiny={"runs": 10},
        full={"runs": 2_000},
        limit=ONE_WORKER,
    ),
    Case(
        name="drain-two-computing",
        title="two workers, handlers that compute for 300 µs",
        program="ours.drain:drained_by_processes",
        metrics=(STEPS_PER_SECOND,),
        options={"runs": 1_000, "workers": 2, "compute_micros": 300},
        tiny={"runs": 10},
        limit=ONE_WORKER,
    ),
    Case(
        name="substeps",
        title="1,000 runs of 10 sub-steps, one worker",
        program="ours.substeps:sub_steps",
        metrics=(STEPS_PER_SECOND,),
        options={"runs": 1_000},
        tiny={"runs": 5},
        limit=Limit("ours.substeps:steps", "steps of the flat path"),
    ),
    Case(
        name="substeps-general",
        title="the same beside steps with conditions",
        program="ours.substeps:sub_steps",
        metrics=(STEPS_PER_SECOND,),
        options={"runs": 1_000},
        tiny={"runs": 5},
        limit=Limit("ours.substeps:steps_of_the_general_path", "steps of the general path"),
    ),
    Case(
        name="lone-1",
        title="a run of 1 step alone, start to result",
        program="ours.lone:alone",
        metrics=(P50, P99),
        options={"runs": 200, "steps": 1},
        tiny={"runs": 5},
        full={"runs": 1_000},
        limit=Limit("limits.writes:alone"),
        peers={"dbos": 100, "restate": 200, "absurd": 100},
        peers_on_sqlite={"dbos": 100},
    ),
    Case(
        name="lone-10",
        title="a run of 10 steps alone, start to result",
        program="ours.lone:alone",
        metrics=(P50, P99),
        options={"runs": 100, "steps": 10},
        tiny={"runs": 5},
        full={"runs": 500},
        limit=Limit("limits.writes:alone"),
        peers={"dbos": 40, "restate": 100, "absurd": 50},
        peers_on_sqlite={"dbos": 40},
    ),
    Case(
        name="parallel",
        title="a run of a parallel of 100, start to result",
        program="ours.lone:parallel",
        metrics=(P50,),
        options={"runs": 30, "entries": 100},
        tiny={"runs": 2, "entries": 10},
        full={"runs": 200},
        limit=Limit("limits.writes:parallel"),
        peers={"dbos": 5, "restate": 30},
    ),
    Case(
        name="many",
        title="start_many of 1,000 one-step runs to the last result",
        program="ours.bulk:many",
        metrics=(SECONDS,),
        options={"runs": 1_000},
        tiny={"runs": 10},
        limit=Limit("limits.writes:many"),
        peers={"dbos": 200, "restate": 1_000, "absurd": 400, "pgqueuer": 1_000},
    ),
    Case(
        name="children",
        title="1,000 parents with a child each, to the last result",
        program="ours.bulk:children",
        metrics=(SECONDS,),
        options={"runs": 1_000},
        tiny={"runs": 10},
        limit=Limit("limits.writes:children"),
        peers={"dbos": 100, "restate": 500},
    ),
    Case(
        name="signals",
        title="1,000 signals at once",
        program="ours.bulk:signals",
        metrics=(Metric("signals_per_second", "/s", "accepted", more_is_better=True, digits=0),),
        options={"signals": 1_000},
        tiny={"signals": 10},
        limit=Limit("limits.writes:signals"),
        peers={"dbos": 200, "restate": 1_000, "absurd": 400},
    ),
    Case(
        name="large-results",
        title="drain of 100 runs of 10 steps, results of 100 KB",
        program="ours.drain:drained",
        metrics=(STEPS_PER_SECOND,),
        options={"runs": 100, "result_bytes": 100_000, "concurrency": 25},
        tiny={"runs": 2, "concurrency": 2},
        limit=Limit("limits.writes:drained"),
        peers={"dbos": 10, "restate": 20, "absurd": 10},
    ),
    Case(
        name="million",
        title="drain beside 1,000,000 finished runs",
        program="ours.drain:drained",
        metrics=(STEPS_PER_SECOND,),
        options={"runs": 1_000, "finished": 1_000_000},
        tiny={"runs": 10, "finished": 20},
        full={"runs": 2_000},
        limit=Limit("ours.drain:drained", "empty store"),
        prepare="ours.stored:fill",
    ),
    Case(
        name="parked",
        title="memory of 10,000 parked runs",
        program="ours.memory:parked",
        metrics=(
            Metric("asleep_kilobytes", "kB/run", "asleep", digits=2),
            Metric("waiting_kilobytes", "kB/run", "waiting for a signal", digits=2),
        ),
        options={"runs": 10_000, "before": 1_000},
        tiny={"runs": 20, "before": 10},
        most_rounds=1,
    ),
    Case(
        name="in-flight",
        title="memory of 1,000 runs in flight",
        program="ours.memory:in_flight",
        metrics=(Metric("kilobytes", "kB/run"),),
        options={"runs": 1_000},
        tiny={"runs": 20},
    ),
    Case(
        name="recovery",
        title="SIGKILL of a worker to the next outcome",
        program="ours.recovery:recovered",
        metrics=(
            Metric("running_ms", "ms", "next worker runs", digits=0),
            Metric("started_ms", "ms", "next worker starts", digits=0),
        ),
        options={"runs": 50},
        tiny={"runs": 5},
        most_rounds=3,
    ),
)
CASES_BY_NAME = {case.name: case for case in CASES}
