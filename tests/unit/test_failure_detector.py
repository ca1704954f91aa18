"""Whom a worker declares dead, by a clock that only the test moves."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, cast

import pytest

from stepwell.engine.fleet.failure_detector import FailureDetector
from stepwell.engine.observer import Observer, Observers, WorkerDead
from stepwell.runtime.system import SystemRuntime
from stepwell.store.records import WorkerRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell.store.protocol import Store

LEASE_SECONDS = 10
SECOND = 1_000_000
BOB = WorkerRow("bob", 1, 0, "host-b", 42, dead=False)


class StoppedClock(SystemRuntime):
    """A steady clock that stands still until it is moved."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def monotonic(self) -> float:
        """Seconds that the test has let pass."""
        return self.seconds


class Fleet:
    """A store that has these workers, and notes which of them was declared dead."""

    def __init__(self) -> None:
        self.rows: Sequence[WorkerRow] = ()
        self.dead: list[str] = []

    async def workers(self) -> Sequence[WorkerRow]:
        """All of them."""
        return self.rows

    async def expire(self, worker_id: str, silent_for: int | None) -> int:
        """Notes it."""
        self.dead.append(worker_id)
        return 1


class Bench:
    """The failure detector of a fleet, whose own beats have succeeded since the beginning unless told otherwise."""

    def __init__(self) -> None:
        self.clock, self.fleet = StoppedClock(), Fleet()
        self.expire_dead = FailureDetector(self.clock, cast("Store", self.fleet), LEASE_SECONDS * SECOND)

    async def look(self, at: float, *rows: WorkerRow, fit_since: float = 0.0) -> list[str]:
        """Has it judge these workers at that second; who is dead by now."""
        self.clock.seconds, self.fleet.rows = at, rows
        await self.expire_dead.expire_dead(frozenset({"ann"}), fit_since)
        return self.fleet.dead


def silent(seconds: float, *, beat: int = 1) -> WorkerRow:
    """Bob, who by the store's clock was silent for so long."""
    return BOB._replace(beat=beat, silent_for=int(seconds * SECOND))


async def test_who_stays_silent_for_a_lease_while_he_is_watched_is_declared_dead() -> None:
    bench = Bench()
    assert not await bench.look(0, silent(0))
    assert not await bench.look(9, silent(9))
    assert await bench.look(11, silent(11)) == ["bob"]


async def test_who_was_declared_dead_is_told_with_the_silence_or_none_where_the_end_is_certain() -> None:
    class Deaths(Observer):
        heard: ClassVar[list[WorkerDead]] = []

        def worker_dead(self, event: WorkerDead) -> None:
            self.heard.append(event)

    fleet, clock = Fleet(), StoppedClock()
    detector = FailureDetector(clock, cast("Store", fleet), LEASE_SECONDS * SECOND, Observers([Deaths()]))
    fleet.rows = [silent(11), BOB._replace(worker_id="carl", dead=True)]
    await detector.expire_dead(frozenset(), 0.0)
    clock.seconds = 6.0
    await detector.expire_dead(frozenset(), 0.0)
    of_carl = WorkerDead("carl", "host-b", None, 1)
    assert Deaths.heard == [of_carl, WorkerDead("bob", "host-b", timedelta(seconds=11), 1), of_carl]


async def test_each_beat_that_is_seen_begins_the_watch_anew() -> None:
    """The store's clock has stepped forward: a worker that beats would be declared dead."""
    bench = Bench()
    for second in range(0, 30, 3):
        assert not await bench.look(second, silent(3_600, beat=second))
    assert not await bench.look(30, silent(3_600, beat=27))
    assert await bench.look(32, silent(3_600, beat=27)) == ["bob"]


async def test_what_was_watched_before_our_own_beats_succeeded_does_not_count() -> None:
    """After an outage all are silent, and the first worker that is back would declare all others dead."""
    bench = Bench()
    assert not await bench.look(0, silent(0))
    assert not await bench.look(60, silent(60), fit_since=59)
    assert await bench.look(64, silent(64), fit_since=59) == ["bob"]


async def test_the_next_look_is_told_by_who_may_be_dead_first() -> None:
    bench = Bench()
    carl = BOB._replace(worker_id="carl")
    await bench.look(0, silent(0), carl)
    assert bench.expire_dead.soonest == pytest.approx(LEASE_SECONDS, abs=0.1)
    await bench.look(7, silent(7), carl._replace(beat=2, silent_for=SECOND))
    assert bench.expire_dead.soonest == pytest.approx(3, abs=0.1)


async def test_a_worker_does_not_judge_itself() -> None:
    assert not await Bench().look(0, BOB._replace(worker_id="ann", dead=True))
