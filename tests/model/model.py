"""What a store promises, in plain Python over a dict: no SQL, no transactions, one call after the other."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from stepwell.store.records import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Collection

    from stepwell.store.records import Advance, NewRun

LOOK_AGAIN = 50_000
FIRST_TURN = 1 << 62
ENDED = ("completed", "failed", "canceled")


@dataclass
class Run:
    """A stored run with its journal and mailbox."""

    new: NewRun
    due_at: int | None
    wake_at: int | None
    status: str = "pending"
    position: int = 0
    worker: str | None = None
    token: int = 0
    messages: int = 0
    crashes: int = 0
    awaiting: tuple[str, ...] = ()
    parked_at: int | None = None
    cancel_requested_at: int | None = None
    nodes: list[str] = field(default_factory=list)
    unread: dict[int, tuple[str, bytes | None]] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    """The message that each key was given to."""

    def free(self, now: int, *, crashed: bool = False) -> None:
        """Whoever held it holds it no more."""
        self.worker, self.token, self.due_at, self.crashes = None, self.token + 1, now, self.crashes + crashed
        if self.parked_at is None and not crashed:
            self.wake_at = None

    def tell(self, name: str, value: bytes | None, now: int) -> None:
        """A child of it has ended."""
        if self.status not in ENDED:
            self.messages += 1
            self.unread[self.messages] = (name, value)
            if self.worker is None and self.status == "suspended" and not self.awaiting:
                self.status, self.due_at = "running", now


@dataclass
class Model:
    """The runs by id, in the order they were written, and the workers by id with their last beat."""

    now: int
    runs: dict[str, Run] = field(default_factory=dict)
    workers: dict[str, int] = field(default_factory=dict)
    turns: int = 0
    """How many calls may have made something due at once, which is in the order of these."""

    def at_once(self) -> int:
        """The instant of what this call makes due at once: before all clocks, and behind what is due so already."""
        return self.turns - FIRST_TURN

    def copy(self) -> Model:
        """The same, to try what another order of calls would give."""
        return copy.deepcopy(self)

    def start(self, runs: list[NewRun]) -> list[tuple[str, str]]:
        """The run of each: itself, or the first of its key."""
        self.turns += 1
        answers = []
        for new in runs:
            same = [run for run in self.runs.values() if new.key is not None and run.new.key == new.key]
            if not same:
                at = self.now + new.delay if new.delay else self.at_once()
                self.runs[new.run_id] = Run(new, at, at if new.delay else None)
            answers.append((same[0].new.run_id, same[0].status) if same else (new.run_id, "pending"))
        return answers

    def claim(
        self, worker: str, lane: int, limit: int, suspects: int, *, passing_over: Collection[str] = ()
    ) -> tuple[bool, Any, Any]:
        """Whether the worker lives; the leases; and with none, how long until the next is due."""
        if worker not in self.workers:
            return False, [], None
        free = [run for run in self.runs.values() if run.worker is None and run.due_at is not None]
        waiting = sorted((run.due_at or 0, run.new.run_id) for run in free if run.new.lane == lane)
        due = [self.runs[run_id] for at, run_id in waiting if at <= self.now and run_id not in passing_over]
        chosen = [run for run in due if run.crashes == 2][: min(suspects, limit)]
        if suspects and not chosen:
            chosen = sorted((run for run in due if run.crashes > 2), key=lambda run: run.crashes)[:1]
        healthy = [run for run in due if run.crashes < 2]
        at_once = [run for run in healthy if (run.due_at or 0) <= 0]
        timers = [run for run in healthy if (run.due_at or 0) > 0]
        both = [run for pair in zip_longest(at_once, timers) for run in pair if run is not None]
        chosen += both[: limit - len(chosen)]
        for run in chosen:
            run.worker, run.token = worker, run.token + 1
            run.status = "running" if run.status == "pending" else run.status
        held = any(at <= self.now and run_id in passing_over for at, run_id in waiting)
        later = [LOOK_AGAIN] if held else [at - self.now for at, _ in waiting if at > self.now]
        return True, {run.new.run_id: facts(run) for run in chosen}, 0 if chosen else min(later, default=None)

    def commit(self, worker: str, advances: list[Advance]) -> list[str]:
        """A verdict on each; those that are ok are applied, own changes before the messages between them."""
        verdicts = [self._verdict(worker, one) for one in advances]
        self.turns += 1
        sound = [one for one, verdict in zip(advances, verdicts, strict=True) if verdict == "ok"]
        for one in sound:
            run = self.runs[one.run_id]
            run.nodes += [row.node for row in one.rows]
            run.position, run.crashes = one.position, 0 if one.rows else run.crashes
            run.wake_at, run.awaiting, run.parked_at = one.wake_at, tuple(one.awaiting), one.parked_at
            if not one.lean:
                run.status, run.worker = one.status, None if one.release else worker
                run.due_at = self.at_once() if one.due_at == AT_ONCE else one.due_at
            for n in one.consumed:
                run.unread.pop(n, None)
                if n in one.freed:
                    run.keys = {key: held for key, held in run.keys.items() if held != n}
            for new in one.spawned:
                self.runs[new.run_id] = Run(new, self.at_once(), None)
        for one in sound:
            if one.child_end is not None:
                self.runs[one.child_end.parent_id].tell(one.child_end.parent_node, one.child_end.value, self.at_once())
        return verdicts

    def _verdict(self, worker: str, one: Advance) -> str:
        run = self.runs[one.run_id]
        is_stored = one.rows and run.token == one.token and len(run.nodes) == one.seq + len(one.rows)
        if is_stored and run.worker == (None if one.release else worker):
            return "done"
        if (run.worker, run.token) != (worker, one.token):
            return "lost"
        if len(run.nodes) != one.seq:
            return "lost"
        if one.absent and one.seen != run.messages:
            absent = {name.name for name in one.absent}
            came = any(n > one.seen and name in absent for n, (name, _) in run.unread.items())
            if came or one.seen > run.messages:
                return "message"
        return "cancel" if one.release and not one.knows_cancel and run.cancel_requested_at is not None else "ok"

    def deliver(self, run_id: str, name: str, value: bytes, key: str | None, *, waiting_only: bool) -> Any:
        """Whether it was accepted, the status after it, and whether the run is due for it."""
        run = self.runs[run_id]
        wakes = name in run.awaiting
        if key in run.keys:
            return True, run.status, False
        if run.status in ENDED or (waiting_only and not wakes):
            return False, run.status, False
        run.messages += 1
        run.unread[run.messages] = (name, value)
        run.keys |= {} if key is None else {key: run.messages}
        if wakes:
            run.status = "running" if run.status == "suspended" else run.status
            run.awaiting, run.wake_at = tuple(one for one in run.awaiting if one != name), None
            self.turns += 1
            run.due_at = self.at_once() if run.worker is None else run.due_at
        return True, run.status, wakes and run.worker is None

    def cancel(self, run_id: str) -> set[str]:
        """The runs of the tree that had not ended."""
        tree = [run_id]
        for one in tree:
            tree += [run.new.run_id for run in self.runs.values() if run.new.parent_id == one]
        canceled = {one for one in tree if self.runs[one].status not in ENDED}
        for run in map(self.runs.__getitem__, canceled):
            run.free(self.now)
            run.status, run.due_at, run.wake_at, run.awaiting, run.parked_at = "canceled", None, None, (), None
        root = self.runs[run_id].new
        if run_id in canceled and root.parent_id is not None:
            self.turns += 1
            self.runs[root.parent_id].tell(root.parent_node or "", None, self.at_once())
        return canceled

    def request_cancel(self, run_id: str) -> set[str]:
        """The runs of the tree that are to be undone and canceled from now on."""
        self.turns += 1
        tree = [run_id]
        for one in tree:
            tree += [run.new.run_id for run in self.runs.values() if run.new.parent_id == one]
        live = {one for one in tree if self.runs[one].status not in ENDED}
        parents = {run.new.parent_id for run in self.runs.values() if run.status not in ENDED}
        asked = {
            one for one in live if self.runs[one].status != "compensating" and not self.runs[one].cancel_requested_at
        }
        for run in map(self.runs.__getitem__, asked):
            run.cancel_requested_at = self.now
            if run.worker is None and run.new.run_id not in parents:
                run.due_at = self.at_once()
        return asked

    def leave(self, worker: str, *, silent_for: int | None = None, crashed: bool = False) -> int | None:
        """How many runs were freed; None for a worker that is not there, or not silent for so long."""
        beat = self.workers.get(worker)
        if beat is None or (silent_for is not None and beat >= self.now - silent_for):
            return None
        del self.workers[worker]
        held = [run for run in self.runs.values() if run.worker == worker]
        self.turns += 1
        for run in held:
            run.free(self.at_once(), crashed=crashed)
        return len(held)

    def give_back(self, worker: str, run_id: str, token: int, delay: int) -> None:
        """The worker lets go of a run that it holds under that token."""
        run = self.runs[run_id]
        if (run.worker, run.token) == (worker, token):
            self.turns += 1
            run.free(self.now + delay if delay else self.at_once())

    def beat(self, worker: str) -> dict[str, int] | None:
        """The runs that the worker holds; None when it was buried."""
        if worker not in self.workers:
            return None
        self.workers[worker] = self.now
        return self.leased(worker)

    def retire(self, worker: str) -> None:
        """The worker leaves."""
        self.leave(worker)

    def leased(self, worker: str) -> dict[str, int]:
        """The runs that the worker holds, with their tokens."""
        return {run_id: run.token for run_id, run in self.runs.items() if run.worker == worker}


def facts(run: Run) -> tuple[Any, ...]:
    """What a claim tells of a run."""
    length, waits = len(run.nodes), (run.wake_at, run.parked_at, run.cancel_requested_at)
    return run.token, length, run.messages, run.crashes, run.status, waits, run.new.parent_id, run.new.value
