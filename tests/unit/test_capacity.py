"""Tests of the capacity model's arithmetic and of the fleet's simulation: what must hold whatever a step costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.capacity.fleet import Fleet, Simulation, saturation
from benchmarks.capacity.model import Cost, Load, Model, fitted
from benchmarks.capacity.server import _kind
from stepwell.store.postgres.sql import NOW, Queries

MODEL = Model(
    {"worker_micros": Cost(300, 10, 60), "database_micros": Cost(250, 9, 80), "wal_bytes": Cost(200, 430, 900)},
    {"database_micros": 150, "wal_bytes": 900, "client_micros": 300, "disk_bytes": 400},
    {"idle_database_micros": 1_000, "hint_database_micros": 200, "connections": 4},
)


def test_the_shares_of_a_cost_are_found_again_in_what_was_counted() -> None:
    loads = [(statements, 10.0 * runs, runs) for statements in (5.0, 40.0, 900.0) for runs in (10.0, 90.0)]
    drains = [
        {"statements": a, "steps": b, "runs": c, "micros": 300 * a + 10 * b + 60 * c}
        for a, b, c in [*loads, (70.0, 50.0, 50.0)]
    ]

    cost = fitted("micros", drains)

    assert (cost.statement, cost.step, cost.run) == pytest.approx((300, 10, 60))


def test_no_share_of_a_cost_is_below_zero() -> None:
    drains = [{"statements": float(a), "steps": float(b), "runs": 1.0, "micros": 100.0} for a, b in ((1, 9), (5, 2))]

    cost = fitted("micros", drains)

    assert min(cost.statement, cost.step, cost.run) >= 0


@pytest.mark.parametrize("runs_a_day", [1_000, 1_000_000, 100_000_000])
def test_no_worker_is_busier_than_wanted(runs_a_day: float) -> None:
    load = Load(runs_a_day, 10)

    found = MODEL.answer(load)

    assert found.worker_busy <= load.busy_share
    assert found.workers * load.concurrency * load.busy_share >= runs_a_day / 86_400 * load.peak * 10 * 0.1
    assert found.connections == found.workers * 4


def test_handlers_that_take_longer_need_more_workers() -> None:
    quick = MODEL.answer(Load(1_000_000, 10))
    slow = MODEL.answer(replace(Load(1_000_000, 10), handler_seconds=10.0))

    assert slow.workers > quick.workers


def test_more_outcomes_share_a_commit_the_more_there_are() -> None:
    batches = [MODEL.batch(rate, 10) for rate in (1, 1_000, 20_000, 1_000_000)]

    assert batches == sorted(batches)
    assert batches[0] == 1
    assert batches[-1] == 256


def test_a_small_fleet_works_off_a_small_load() -> None:
    fleet = Fleet(workers=5, runs_a_second=20, steps=3, seconds=5)

    seen = Simulation(fleet).run()

    assert seen.backlog <= 2
    assert seen.ended > 0.8 * fleet.runs_a_second * fleet.seconds
    assert seen.busy(fleet) < 0.5


def test_looks_that_find_nothing_grow_with_the_fleet() -> None:
    small, large = (
        Simulation(Fleet(workers=workers, runs_a_second=20, steps=3)).run().spent["look"] for workers in (5, 50)
    )

    assert large > 5 * small


def test_a_fleet_that_hears_no_hints_saturates_later() -> None:
    def fleet(runs: float, *, listening: bool) -> Fleet:
        return Fleet(workers=300, runs_a_second=runs, steps=3, cores=1, seconds=0.5, listening=listening)

    assert saturation(lambda runs: fleet(runs, listening=True)) < saturation(lambda runs: fleet(runs, listening=False))


def test_every_kind_of_statement_is_told_from_its_text() -> None:
    kinds = {_kind(statement.sql) for statement in Queries("stepwell", NOW).statements.values()}

    assert kinds >= {"commit", "start", "claim", "beat", "watch", "other"}
