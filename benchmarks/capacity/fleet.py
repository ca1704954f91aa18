"""A simulation of a fleet on one PostgreSQL, by discrete events, with the costs that were counted.

The database is some cores that work off statements in order, and one device that flushes: a flush takes in every commit
that is ready when it begins. A worker commits what is ready, one commit at a time; claims when it was told to, or when
nothing came for a second; beats. Telling costs the database for each listener. Workers and clients are not the limit
here: their own CPU is not simulated.
"""

from __future__ import annotations

import heapq
import itertools
import random
import statistics
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CLIENTS = 10
HINT_GAP, LOOK_GAP, IDLE_LOOK, BEAT_EVERY = 0.01, 0.015, 2.0, 3.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet and its load; costs are seconds of the database's CPU.

    `listening` off: no notifications, a worker looks every `IDLE_LOOK`/2 seconds. `audience`: how many workers hear a
    hint (all, or those of one queue). `hint_gap`: how long a process waits between two hints.
    """

    workers: int
    runs_a_second: float
    steps: int
    cores: int = 8
    seconds: float = 2.0
    handler_seconds: float = 0.05
    concurrency: int = 100
    flush_seconds: float = 0.0005
    round_trip_seconds: float = 0.0003
    start_cost: float = 0.0003
    claim_cost: float = 0.0003
    hint_cost: float = 0.0003
    commit_cost: float = 0.0002
    row_cost: float = 0.00002
    beat_cost: float = 0.0005
    listening: bool = True
    queues: int = 1
    hint_gap: float = HINT_GAP


@dataclass(slots=True)
class Seen:
    """What the simulation saw: shares of the database's CPU by what for, and seconds from a start to its first step."""

    steps_done: int = 0
    ended: int = 0
    spent: dict[str, float] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    backlog: int = 0

    def busy(self, fleet: Fleet) -> float:
        """The share of the database's cores that was used."""
        return sum(self.spent.values()) / fleet.cores / fleet.seconds

    def share(self, kind: str) -> float:
        """The share of what was spent that went there."""
        return self.spent.get(kind, 0.0) / max(sum(self.spent.values()), 1e-9)

    def wait(self, share: float) -> float:
        """A quantile of the seconds from a start to its first step; infinite if none began."""
        if not self.waits:
            return float("inf")
        return sorted(self.waits)[min(len(self.waits) - 1, int(share * len(self.waits)))]

    def batch(self) -> float:
        """How many outcomes shared a commit."""
        return statistics.fmean(self.batches) if self.batches else 0.0


@dataclass(slots=True)
class _Worker:
    queue: int
    room: int
    ready: deque[tuple[int, float]] = field(default_factory=deque)
    commits: bool = False
    looks: bool = False
    looked_at: float = -1.0


class Simulation:
    """One run of the simulation, from an empty database on."""

    def __init__(self, fleet: Fleet, seed: int = 1) -> None:
        self._fleet = fleet
        self._chance = random.Random(seed)
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._now = 0.0
        self._free = fleet.cores
        self._waiting: deque[Callable[[], tuple[str, float, Callable[[], None], bool]]] = deque()
        self._flushing: list[Callable[[], None]] = []
        self._flushes = False
        self._due: list[deque[float]] = [deque() for _ in range(fleet.queues)]
        self._workers = [_Worker(at % fleet.queues, fleet.concurrency) for at in range(fleet.workers)]
        self._told = [-1.0] * CLIENTS
        self.seen = Seen()

    def run(self) -> Seen:
        """Plays it to its end."""
        for worker in self._workers:
            self._at(self._chance.random() * BEAT_EVERY, partial(self._beat, worker))
            self._at(self._chance.random() * IDLE_LOOK, partial(self._poll, worker))
        self._at(self._chance.expovariate(self._fleet.runs_a_second), self._start)
        while self._events and self._events[0][0] <= self._fleet.seconds:
            self._now, _, act = heapq.heappop(self._events)
            act()
        self.seen.backlog = sum(map(len, self._due))
        return self.seen

    def _at(self, delay: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + delay, next(self._order), act))

    def _ask(self, begin: Callable[[], tuple[str, float, Callable[[], None], bool]]) -> None:
        """A statement: waits for a core, where it begins, uses it, is flushed if it writes, and is answered.

        `begin` says what the statement is for, what it costs, what its answer brings about, and whether it writes.
        """
        self._waiting.append(begin)
        self._serve()

    def _write(self, kind: str, cost: float, then: Callable[[], None]) -> None:
        self._ask(lambda: (kind, cost, then, True))

    def _serve(self) -> None:
        while self._free and self._waiting:
            kind, cost, then, writes = self._waiting.popleft()()
            self._free -= 1
            self._at(cost, partial(self._served, kind, cost, then, writes))

    def _served(self, kind: str, cost: float, then: Callable[[], None], writes: Any) -> None:
        self._free += 1
        self.seen.spent[kind] = self.seen.spent.get(kind, 0.0) + cost
        if writes:
            self._flushing.append(then)
            if not self._flushes:
                self._flush()
        else:
            self._at(self._fleet.round_trip_seconds, then)
        self._serve()

    def _flush(self) -> None:
        self._flushes, taken = True, self._flushing
        self._flushing = []
        self._at(self._fleet.flush_seconds, lambda: self._flushed(taken))

    def _flushed(self, taken: list[Callable[[], None]]) -> None:
        self._flushes = False
        for then in taken:
            self._at(self._fleet.round_trip_seconds, then)
        if self._flushing:
            self._flush()

    def _start(self) -> None:
        began, queue = self._now, self._chance.randrange(self._fleet.queues)
        client = self._chance.randrange(CLIENTS)

        def started() -> None:
            self._due[queue].append(began)
            if self._now - self._told[client] >= self._fleet.hint_gap:
                self._told[client] = self._now
                self._tell(queue)

        self._write("start", self._fleet.start_cost, started)
        self._at(self._chance.expovariate(self._fleet.runs_a_second), self._start)

    def _tell(self, queue: int) -> None:
        if self._fleet.listening:
            for worker in self._workers:
                if worker.queue == queue:
                    self._look_soon(worker)

    def _look_soon(self, worker: _Worker) -> None:
        """A claim, at most one in 15 ms."""
        if not worker.looks and worker.room > 0:
            worker.looks = True
            self._at(max(0.0, worker.looked_at + LOOK_GAP - self._now), lambda: self._look(worker))

    def _look(self, worker: _Worker) -> None:
        worker.looked_at = self._now

        def begin() -> tuple[str, float, Callable[[], None], bool]:
            due = self._due[worker.queue]
            taken = [due.popleft() for _ in range(min(len(due), worker.room))]
            worker.room -= len(taken)
            kind, cost = ("claim", self._fleet.claim_cost) if taken else ("look", self._fleet.hint_cost)
            return kind, cost, partial(self._claimed, worker, taken), bool(taken)

        self._ask(begin)

    def _claimed(self, worker: _Worker, taken: Sequence[float]) -> None:
        worker.looks = False
        for began in taken:
            self.seen.waits.append(self._now - began)
            self._at(self._fleet.handler_seconds, partial(self._outcome, worker, 1))
        if taken and self._due[worker.queue]:
            self._look_soon(worker)

    def _outcome(self, worker: _Worker, step: int) -> None:
        worker.ready.append((step, self._now))
        self._commit(worker)

    def _commit(self, worker: _Worker) -> None:
        if worker.commits or not worker.ready:
            return
        taken, worker.ready = list(worker.ready), deque()
        worker.commits = True

        def committed() -> None:
            worker.commits = False
            ended = 0
            for step, _ in taken:
                self.seen.steps_done += 1
                if step == self._fleet.steps:
                    ended += 1
                else:
                    self._at(self._fleet.handler_seconds, partial(self._outcome, worker, step + 1))
            if ended:
                self.seen.ended += ended
                worker.room += ended
            self._commit(worker)

        self.seen.batches.append(len(taken))
        cost = self._fleet.commit_cost + self._fleet.row_cost * len(taken)
        self._write("commit", cost, committed)

    def _beat(self, worker: _Worker) -> None:
        self._write("beat", self._fleet.beat_cost * BEAT_EVERY, lambda: None)
        self._at(BEAT_EVERY, lambda: self._beat(worker))

    def _poll(self, worker: _Worker) -> None:
        self._look_soon(worker)
        self._at(IDLE_LOOK if self._fleet.listening else IDLE_LOOK / 2, lambda: self._poll(worker))


def saturation(fleet_of: Callable[[float], Fleet], busy: float = 0.9) -> float:
    """The most runs a second that keep the database below that share and leave no backlog, within a tenth."""
    low, high = 0.0, 10.0
    while _holds(fleet_of(high), busy) and high < 100_000:
        low, high = high, high * 2
    while high - low > high / 10:
        middle = (low + high) / 2
        if _holds(fleet_of(middle), busy):
            low = middle
        else:
            high = middle
    return low


def _holds(fleet: Fleet, busy: float) -> bool:
    seen = Simulation(fleet).run()
    return seen.busy(fleet) < busy and seen.backlog < fleet.runs_a_second / 4 + 5
