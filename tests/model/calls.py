"""Drawing the next call of a history: what it asks of a store, and what the model says to the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar

from stepwell.core.journal import JournalRow
from stepwell.core.mailbox import MessageName
from stepwell.store.records import Advance, ChildEnd, NewRun

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from stepwell.store.records import Lease
    from tests.model.model import Model
    from tests.model.stores import Kept

LANES = 2
WORKERS = ("ann", "bob", "eve")
NAMES = ("go", "stop")
KEYS = (None, None, "k1", "k2")
WAITS = ("await", "await", "await", "time out", "sleep")
SHAPES = ("lean", "lean", "stay", *WAITS, "end", "spawn", "spawn", "give way", "consume")
Facts: TypeAlias = "dict[str, Any]"
T = TypeVar("T")


class Draw(Protocol):
    """Chance: one of these, each as likely as it is often there."""

    def __call__(self, among: Sequence[T], /) -> T:
        """The one that was drawn."""


class Call(NamedTuple):
    """One call: to a store, and to the model, which may be told to pass over runs that others hold at that moment."""

    store: Callable[[Kept], Awaitable[Any]]
    model: Callable[[Model], Any]
    passing_over: Callable[[Model, set[str]], Any] | None = None
    touches: frozenset[str] = frozenset()


class Calls:
    """Draws calls that mostly make sense as the model stands."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._given: list[tuple[str, str, int]] = []
        self._batches: list[tuple[str, list[Facts]]] = []
        self._made = 0

    def took(self, worker: str, answer: tuple[bool, Any, Any]) -> None:
        """A claim's leases can be used from now on."""
        self._given += [(worker, run_id, known[0]) for run_id, known in dict(answer[1]).items()]

    def start(self, draw: Draw) -> Call:
        lane, delay = draw(range(LANES)), draw([0, 0, 5_000_000])
        return self.start_these(lane, [draw(KEYS) for _ in range(draw((1, 2, 3)))], delay)

    def start_these(self, lane: int, keys: list[str | None], delay: int = 0) -> Call:
        new = [NewRun(self._new_id(), lane, "order", b"{}", key, delay) for key in keys]
        return Call(lambda kept: kept.start(new), lambda model: model.start(new))

    def enlist(self, draw: Draw) -> Call | None:
        worker = draw(WORKERS)
        return None if worker in self.model.workers else self.enlist_this(worker)

    def enlist_this(self, worker: str) -> Call:
        return Call(lambda kept: kept.enlist(worker), lambda model: model.workers.update({worker: model.now}))

    def claim(self, draw: Draw) -> Call:
        worker = draw([*sorted(self.model.workers) * 3, *WORKERS])
        wanted = (draw(range(LANES)), draw(range(1, 5)), draw((0, 1)))

        async def claim(kept: Kept) -> Any:
            answer = await kept.claim(worker, *wanted)
            self.took(worker, answer)
            return answer

        return Call(
            claim,
            lambda model: model.claim(worker, *wanted),
            lambda model, held: model.claim(worker, *wanted, passing_over=held),
        )

    def commit(self, draw: Draw, most: int = 3) -> Call | None:
        first = self._lease(draw)
        if first is None:
            return None
        some = [first, *(self._lease(draw, first[0]) or first for _ in range(draw(range(most))))]
        batch = [self._advance(run_id, token, draw) for run_id, token in {one[1]: one[2] for one in some}.items()]
        self._batches.append((first[0], batch))
        return commit_of(first[0], batch)

    def commit_again(self, draw: Draw) -> Call | None:
        every = self._batches[-1:] * 3 + self._batches[-3:]
        return commit_of(*draw(every)) if every else None

    def deliver(self, draw: Draw) -> Call:
        run_id, name, key, waiting_only = self._run(draw), draw(NAMES), draw(KEYS), draw((False, True))
        return Call(
            lambda kept: kept.deliver(run_id, name, key, waiting_only=waiting_only),
            lambda model: model.deliver(run_id, name, b"3", key, waiting_only=waiting_only),
            touches=frozenset({run_id}),
        )

    def cancel(self, draw: Draw) -> Call:
        run_id = self._run(draw)
        parent = self.model.runs[run_id].new.parent_id
        tree = self.model.copy().cancel(run_id)
        return Call(
            lambda kept: kept.cancel(run_id),
            lambda model: model.cancel(run_id),
            touches=frozenset({run_id, *tree, *([parent] if parent else [])}),
        )

    def request_cancel(self, draw: Draw) -> Call:
        held = sorted(run_id for run_id, run in self.model.runs.items() if run.worker is not None)
        run_id = draw(held) if held else self._run(draw)
        tree = self.model.copy().request_cancel(run_id)
        return Call(
            lambda kept: kept.request_cancel(run_id),
            lambda model: model.request_cancel(run_id),
            touches=frozenset({run_id, *tree}),
        )

    def give_back(self, draw: Draw) -> Call | None:
        lease, delay = self._lease(draw), draw([0, 2_000_000])
        if lease is None:
            return None
        worker, run_id, token = lease
        return Call(
            lambda kept: kept.store.give_back(worker, {run_id: token}, delay),
            lambda model: model.give_back(worker, run_id, token, delay),
        )

    def beat(self, draw: Draw) -> Call:
        worker = draw(WORKERS[:2])
        return Call(lambda kept: kept.beat(worker), lambda model: model.beat(worker))

    def expire(self, draw: Draw) -> Call:
        worker, silent_for = draw(WORKERS), draw([None, 0, 10_000_000])
        return Call(
            lambda kept: kept.store.expire(worker, silent_for),
            lambda model: model.leave(worker, silent_for=silent_for, crashed=True),
        )

    def retire(self, draw: Draw) -> Call:
        worker = draw(WORKERS)
        return Call(lambda kept: kept.store.retire(worker), lambda model: model.retire(worker))

    def _new_id(self) -> str:
        self._made += 1
        return f"00000000-0000-7000-8000-{self._made:012x}"

    def _run(self, draw: Draw) -> str:
        run_id: str = draw(sorted(self.model.runs))
        return run_id

    def _lease(self, draw: Draw, worker: str | None = None) -> tuple[str, str, int] | None:
        """One that was given out, to this worker if one is named; mostly one that still holds."""
        given = [one for one in self._given if worker in {None, one[0]}]
        held = [one for one in given if self.model.leased(one[0]).get(one[1]) == one[2]]
        every = held * 4 + given[-2:]
        return draw(every) if every else None

    def _advance(self, run_id: str, token: int, draw: Draw) -> Facts:
        """The facts of an advance that mostly rests on what is stored."""
        run, shape = self.model.runs[run_id], draw(SHAPES)
        rows = draw((1, 2)) if shape == "lean" else draw((0, 1, 2))
        seq = max(0, len(run.nodes) - draw([0, 0, 0, 0, 1]))
        one: Facts = {"run_id": run_id, "token": token, "seq": seq, "rows": rows, "status": "running"}
        if run.cancel_requested_at is not None and draw((False, True)):
            one["knows_cancel"] = True
        seen = max(0, run.messages - draw([0, 1, 2]))
        came = [name for n, (name, _) in run.unread.items() if n > seen and name in NAMES]
        names = [draw(came or NAMES) if draw((False, True, True)) else draw(NAMES)]
        parent, later = run.new.parent_id, self.model.now + 3_000_000
        if shape == "end" or (parent is not None and shape in {"await", "stay"}):
            end = None if parent is None else ChildEnd(parent, run.new.parent_node or "", b"1", None)
            return {**one, "release": True, "ended": True, "status": "completed", "child_end": end}
        if shape == "await":
            at = draw([None, later])
            names = list(dict.fromkeys([*names, draw(NAMES)]))
            waits = {"awaiting": names, "due_at": at, "wake_at": at, "seen": seen, "absent": _signals(names)}
            return {**one, **waits, "release": True, "status": "suspended", "parked_at": 1}
        if shape == "time out":
            return {**one, "absent": _signals(names), "seen": seen}
        if shape == "sleep":
            return {**one, "due_at": later, "wake_at": later, "release": True, "parked_at": 1}
        if shape == "spawn":
            child = NewRun(self._new_id(), 0, "order", b"2", None, 0, run_id, "child")
            return {**one, "spawned": [child], "release": True, "status": "suspended", "parked_at": 1}
        if shape == "give way":
            return {**one, "release": True, "due_at": self.model.now}
        used = {"consumed": sorted(run.unread)[:1]}
        used["freed"] = used["consumed"] if seq % 2 else []
        return {**one, "lean": True} if shape == "lean" else {**one, **used}


def commit_of(worker: str, batch: list[Facts]) -> Call:
    """The commit of a worker's batch."""

    async def commit(kept: Kept) -> list[str]:
        advances = [advance_of(one, kept.leases[one["run_id"], one["token"]]) for one in batch]
        for advance in advances:
            advance.spawned = [new._replace(lane=kept.lanes[new.lane]) for new in advance.spawned]
        return [str(verdict) for verdict in await kept.store.commit(worker, advances)]

    touched = {one["run_id"] for one in batch} | {end.parent_id for one in batch if (end := one.get("child_end"))}
    model = [advance_of(one, None) for one in batch]
    return Call(commit, lambda told: told.commit(worker, model), touches=frozenset(touched))


def advance_of(facts: Facts, lease: Lease | None) -> Advance:
    """The advance, as one store names the run; the model needs no such name."""
    facts = dict(facts)
    run_id, token, seq, count = (facts.pop(name) for name in ("run_id", "token", "seq", "rows"))
    ref = 0 if lease is None else lease.ref
    rows = [
        JournalRow(ref, at, f"step{at}", "", "do", 0, "step", 1, "completed", b"1", None, None, None, 10, 20, "someone")
        for at in range(seq + 1, seq + count + 1)
    ]
    advance = Advance(run_id, ref, token, seq, rows, seq + count, facts.pop("status"))
    for name, value in facts.items():
        setattr(advance, name, value)
    return advance


def _signals(names: Sequence[str]) -> tuple[MessageName, ...]:
    return tuple(MessageName("signal", name) for name in names)
