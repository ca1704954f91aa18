"""Many innocent runs and one poison, over seeds: the innocent are soon through, and none of them is failed for it."""

from __future__ import annotations

import random

import pytest

from stepwell.engine.driving.suspects import Suspects

MAX_CRASHES = 5
INNOCENT = 200
ROOM = 100
POISON = 0
WORKERS = 3


class Fleet:
    """Workers that claim as the stores give, and die of the poison."""

    def __init__(self, seed: int, innocent: int = INNOCENT) -> None:
        self.chance = random.Random(seed)
        self.crashes = dict.fromkeys(range(innocent + 1), 0)
        self.most = dict(self.crashes)
        self.due = list(self.crashes)
        self.chance.shuffle(self.due)
        self.workers = [Suspects(MAX_CRASHES) for _ in range(WORKERS)]
        self.held: list[list[int]] = [[] for _ in range(WORKERS)]
        self.failed: list[int] = []
        self.calls = 0

    def claim(self, at: int) -> None:
        """A worker takes what it has room for, as a store's claim gives it."""
        suspected = [self.crashes[run] for run in self.held[at] if self.crashes[run] > 1]
        most, worst = self.workers[at].room(suspected)
        chosen = [run for run in self.due if self.crashes[run] == 2][:most]
        if not chosen and worst and most:
            chosen = sorted((run for run in self.due if self.crashes[run] > 2), key=self.crashes.__getitem__)[:1]
        healthy = [run for run in self.due if self.crashes[run] < 2]
        chosen += healthy[: ROOM - len(self.held[at]) - len(chosen)]
        self.due = [run for run in self.due if run not in chosen]
        self.held[at] += chosen

    def call(self, at: int) -> None:
        """A worker ends one of its runs, or dies of it, with all that it holds."""
        run = self.chance.choice(self.held[at])
        self.calls += 1
        if self.crashes[run] >= MAX_CRASHES:
            self.failed.append(run)
        elif run == POISON:
            for each in self.held[at]:
                self.crashes[each] += 1
                self.most[each] = max(self.most[each], self.crashes[each])
            self.due += self.held[at]
            self.held[at], self.workers[at] = [], Suspects(MAX_CRASHES)
            return
        if self.crashes[run] > 1:
            self.workers[at].clear()
        self.held[at].remove(run)


@pytest.mark.parametrize("seed", range(50))
def test_no_innocent_run_comes_near_the_limit_for_being_beside_the_poison(seed: int) -> None:
    fleet = Fleet(seed)
    while fleet.due or any(fleet.held):
        at = fleet.chance.randrange(WORKERS)
        fleet.claim(at)
        if fleet.held[at]:
            fleet.call(at)
    assert fleet.failed == [POISON]
    assert max(most for run, most in fleet.most.items() if run != POISON) <= MAX_CRASHES - 2


def test_as_suspects_survive_twice_as_many_are_let_in_each_time() -> None:
    suspects = Suspects(MAX_CRASHES)
    widths = []
    for _ in range(4):
        width = suspects.room([]).most
        widths.append(width)
        for _ in range(width):
            suspects.clear()
    assert widths == [1, 2, 4, 8]


def test_one_that_crashed_three_workers_has_no_other_suspect_beside_it() -> None:
    suspects = Suspects(MAX_CRASHES)
    for _ in range(9):
        suspects.clear()
    assert suspects.room([3]) == (0, False)
    assert suspects.room([2]) == (9, False)
    assert suspects.room([]) == (10, True)


def test_where_three_deaths_are_the_limit_suspects_come_one_at_a_time() -> None:
    suspects = Suspects(3)
    suspects.clear()
    assert suspects.room([]) == (1, True)
    assert suspects.room([2]).most == 0
