"""The in-memory store made unreliable: unavailable, slow, late, failing, losing answers, or killing its caller."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from stepwell import StoreUnavailableError
from stepwell.store.records import ANY_CHANGES, LOAD_BYTES, Changes
from stepwell.store.sqlite.connection import in_transaction
from stepwell.store.sqlite.sql import Q
from tests.faulty import WrappedReader, WrappedStore
from tests.simulation.loop import pause
from tests.simulation.wide import BATCH, LARGE_BYTES, LOADS_SLOWLY

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from stepwell.store.protocol import HeartbeatConnection
    from stepwell.store.records import Advance, Claimed, History, Verdict, Wanted, WorkerRow
    from stepwell.store.sqlite.store import SqliteStore
    from tests.simulation.loop import Process

T = TypeVar("T")
_READS = {"define", "load", "find_messages", "schema", "workers", "snapshot", "journal", "page", "ended", "leased"}
_WRITES_NOTHING = _READS | {"claim", "situation", "outline", "lane"}
_BREAKS = {"claim", "load", "workers", "leased"}
"""The calls after which the engine goes on whatever the driver raised."""
_AT_A_CALL = ("away", "forgets", "kills before", "kills after", "slow", "breaks")


class BrokenDriverError(Exception):
    """What no driver should raise."""


@dataclass(slots=True)
class FaultPlan:
    """The probability of each fault at each call while faults are active, and the store's delays, in seconds.

    `without`: faults that do not happen though they were drawn, all of a kind or one of it.
    """

    chance: random.Random
    rates: dict[str, float]
    without: frozenset[str] = frozenset()
    active: bool = True
    slowness: float = 0.002
    slow_for: float = 1.5
    full_until: float = 0.0
    """Until when the disk under the store is full, by the loop's clock."""
    drawn: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)

    def at_a_call(self, verb: str) -> str | None:
        """The fault that strikes this call; at most one does."""
        if not self.active:
            return None
        left = self.chance.random()
        for fault in _AT_A_CALL:
            left -= self.rates.get(fault, 0.0)
            if left < 0:
                return fault if (fault != "breaks" or verb in _BREAKS) and self.counts(fault, verb) else None
        return None

    def happens(self, fault: str, where: str = "") -> bool:
        """Whether this fault happens now."""
        rate = self.rates.get(fault, 0.0)
        return self.active and rate > 0 and self.chance.random() < rate and self.counts(fault, where)

    def refuse_if_full(self, url: str) -> None:
        """Raises StoreUnavailableError while nothing more can be written."""
        if self.full_until > asyncio.get_running_loop().time():
            self.met["full disk, refused"] += 1
            raise StoreUnavailableError(url, "the disk under it is full")

    def counts(self, fault: str, where: str = "") -> bool:
        """Counts a fault that was drawn; whether it happens."""
        number = self.drawn[fault]
        self.drawn[fault] = number + 1
        if self.without and (fault in self.without or f"{fault}:{number}" in self.without):
            return False
        self.met[f"{fault}, {where}" if where else fault] += 1
        return True


@dataclass(slots=True)
class Shared:
    """What all callers of the store share: the store itself, who is known to whom, and which runs were refused."""

    store: SqliteStore
    fault_plan: FaultPlan
    owners: dict[str, Process] = field(default_factory=dict)
    locks_tell: bool = True
    writes: int = 0
    late: set[asyncio.Task[Any]] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    """The runs that could not be read for a broken driver."""
    decided: Counter[str] = field(default_factory=Counter)

    def is_dead(self, worker_id: str) -> bool:
        """Whether the worker's process has died."""
        return worker_id in self.owners and not self.owners[worker_id].alive

    @property
    def connection(self) -> sqlite3.Connection:
        """The one connection to the memory."""
        return self.store._in_memory()


class SimulatedStore(WrappedStore):
    """The store as one process sees it; `process` is None for a client, which does not die."""

    def __init__(self, shared: Shared, process: Process | None, *, with_others: bool = True) -> None:
        super().__init__(shared.store)
        self.shared = with_others
        self.sees_death = shared.locks_tell
        self._all = shared
        self._fault_plan = shared.fault_plan
        self._process = process
        self.reader = SimulatedReader(self)

    async def call(self, verb: str, make: Callable[..., Awaitable[Any]], *given: Any, **named: Any) -> Any:
        """What the store gives, if all goes well; it is on its way there or back, or neither."""
        fault_plan, process = self._fault_plan, self._process
        if process is not None and not process.alive:
            await asyncio.sleep(0)
        if verb not in _READS:
            fault_plan.refuse_if_full(self.url)
        fault = fault_plan.at_a_call(verb)
        delay = 3 * fault_plan.slowness * (fault_plan.chance.random() - 1 / 3)
        if fault == "slow":
            delay *= fault_plan.slow_for / fault_plan.slowness / 2
        if delay > 0:
            await pause(delay)
        if fault == "away":
            raise StoreUnavailableError(self.url, "it is away")
        if fault == "breaks":
            raise BrokenDriverError(verb)
        if fault == "kills before":
            await self._die()
        answer = await make(*given, **named)
        self._all.writes += verb not in _WRITES_NOTHING
        if fault == "kills after":
            await self._die()
        if delay <= 0:
            await pause(-delay)
        if fault == "forgets":
            raise StoreUnavailableError(self.url, "the answer was lost")
        return answer

    async def _die(self) -> None:
        if self._process is not None:
            self._process.die()
            await asyncio.sleep(0)

    async def open(self) -> None:
        """It is open."""

    async def close(self) -> None:
        """It stays open for the others."""

    async def migrate(self) -> None:
        """It has its tables."""

    async def claim(self, worker_id: str, lanes: Sequence[int], limit: int, suspects: int, **room: Any) -> Claimed:
        """Passes on."""
        claimed: Claimed = await self.call("claim", self._claim, worker_id, lanes, limit, suspects, **room)
        return claimed

    async def load(self, wanted: Sequence[Wanted], most_bytes: int = LOAD_BYTES) -> Mapping[str, History]:
        """Passes on."""
        try:
            if self._fault_plan.slow_for == LOADS_SLOWLY and self._fault_plan.happens("slow"):
                self._fault_plan.met["slow load"] += 1
                await pause(LOADS_SLOWLY * (0.5 + self._fault_plan.chance.random()))
            loaded: Mapping[str, History] = await self.call("load", self._store.load, wanted, most_bytes)
        except BrokenDriverError:
            self._all.broken |= {one.lease.run_id for one in wanted}
            raise
        return loaded

    async def commit(self, worker_id: str, advances: Sequence[Advance]) -> list[Verdict]:
        """Passes on, but for runs that are busy or refused; now and then the same batch comes once more, much later."""
        fault_plan = self._fault_plan
        kept = [_kept(one) for one in advances]
        self._perhaps_refuse(kept)
        busy = [
            fault_plan.happens("busy") or (one.child_end is not None and fault_plan.happens("busy parent"))
            for one in advances
        ]
        free = [one for one, is_busy in zip(kept, busy, strict=True) if not is_busy]
        if fault_plan.happens("repeats"):
            late = asyncio.get_running_loop().create_task(
                self._commit_late(worker_id, free), context=contextvars.Context()
            )
            self._all.late.add(late)
            late.add_done_callback(self._all.late.discard)
        verdicts = iter(await self.call("commit", self._store.commit, worker_id, free) if free else [])
        told: list[Verdict] = ["busy" if is_busy else next(verdicts) for is_busy in busy]
        self._all.decided.update(f"verdict {verdict}" for verdict in told)
        self._all.decided.update(f"decision {decision}" for one in advances for decision in _decisions(one))
        self._note_sizes(kept)
        return told

    def _note_sizes(self, advances: Sequence[Advance]) -> None:
        reached = self._all.decided
        reached["fault batch of many"] += len(advances) >= BATCH
        reached["fault large value"] += any(len(row.value or b"") > LARGE_BYTES for one in advances for row in one.rows)

    def _perhaps_refuse(self, advances: Sequence[Advance]) -> None:
        """Cannot keep one of the rows, an outcome's."""
        for one in advances:
            outcomes = {row.phase for row in one.rows if row.n == 0}
            if outcomes and self._fault_plan.happens("refuses", "undo" if "undo" in outcomes else "do"):
                self._all.refused.add(one.run_id)
                raise sqlite3.IntegrityError("no such row can be kept")

    async def enlist(self, worker_id: str, host: str, *serves: Any) -> HeartbeatConnection:
        """Passes on."""
        if self._process is not None:
            self._all.owners[worker_id] = self._process
        await self.call("enlist", self._store.enlist, worker_id, host, *serves)
        return SimulatedHeartbeat(self._all, worker_id)

    async def workers(self) -> list[WorkerRow]:
        """Passes on; where locks tell, the dead are known to be so."""
        rows = await self.call("workers", self._store.workers)
        return [row._replace(dead=self._all.locks_tell and self._all.is_dead(row.worker_id)) for row in rows]

    async def expire(self, worker_id: str, silent_for: int | None) -> int | None:
        """Passes on."""
        freed: int | None = await self.call("expire", self._expire, worker_id, silent_for)
        return freed

    async def _claim(self, worker_id: str, lanes: Sequence[int], limit: int, suspects: int, **room: Any) -> Claimed:
        claimed = await self._store.claim(worker_id, lanes, limit, suspects, **room)
        self._all.decided["fault full claim"] += len(claimed.leases) == limit > 1
        self._all.writes += bool(claimed.leases)  # a claim of nothing changes nothing, and nobody looks again for it
        return claimed

    async def _expire(self, worker_id: str, silent_for: int | None) -> int | None:
        freed = await self._store.expire(worker_id, silent_for)
        if freed is not None and not self._all.is_dead(worker_id):
            self._all.owners[worker_id].expired_alive = True
            self._fault_plan.met["buried alive"] += 1
        return freed

    async def steal(self, worker_id: str) -> None:
        """Buries a worker that is well."""
        await self._expire(worker_id, None)
        self._all.writes += 1

    async def _commit_late(self, worker_id: str, advances: list[Advance]) -> None:
        await asyncio.sleep(self._fault_plan.chance.uniform(0, 2 * self._fault_plan.slow_for))
        await self._store.commit(worker_id, advances)
        self._all.writes += 1


def _decisions(advance: Advance) -> Iterable[str]:
    """What was decided, as far as a commit tells."""
    if advance.rows:
        yield "record"
    if advance.absent and not advance.awaiting and not advance.release:
        yield "record quietly"
    if advance.status == "compensating":
        yield "compensate"
    if advance.ended:
        yield "complete" if advance.status == "completed" else "fail"
    elif advance.spawned:
        yield "spawn"
    elif advance.release:
        yield "park" if advance.wake_at is not None or advance.awaiting else "give back"


def _kept(advance: Advance) -> Advance:
    """A copy that does not change when the run goes on."""
    kept = copy.copy(advance)
    kept.rows, kept.consumed = list(advance.rows), list(advance.consumed)
    return kept


class SimulatedReader(WrappedReader):
    """The reader as one process sees it."""

    def __init__(self, store: SimulatedStore) -> None:
        super().__init__(store)
        self._faulty = store
        self._seen = -1

    async def changed(self) -> Changes | None:
        """Anything, if another process wrote; sometimes late, sometimes for nothing."""
        fault_plan = self._faulty._fault_plan
        if fault_plan.happens("away", "changed"):
            raise StoreUnavailableError(self._faulty.url, "it is away")
        if fault_plan.happens("wakes for nothing"):
            return ANY_CHANGES
        if fault_plan.happens("wakes late"):
            return None
        changed = self._seen != self._faulty._all.writes
        self._seen = self._faulty._all.writes
        return ANY_CHANGES if changed else None


class SimulatedHeartbeat:
    """A beat that may not arrive, or whose answer may be lost."""

    def __init__(self, shared: Shared, worker_id: str) -> None:
        self._all = shared
        self._worker_id = worker_id

    def beat(self) -> dict[str, int] | None:
        """Says that the worker lives."""
        fault_plan, connection = self._all.fault_plan, self._all.connection
        if fault_plan.happens("away", "beat"):
            raise StoreUnavailableError("sqlite://", "it is away")
        fault_plan.refuse_if_full("sqlite://")
        now = self._all.store._runtime.wall()

        def beat() -> dict[str, int] | None:
            if connection.execute(Q["beat"], {"id": self._worker_id, "now": now}).rowcount == 0:
                return None
            held = connection.execute("SELECT id, token FROM stepwell_runs WHERE worker = ?", (self._worker_id,))
            return dict(held.fetchall())

        held = in_transaction(connection, beat, lambda _: None, write=True)
        if fault_plan.happens("forgets", "beat"):
            raise StoreUnavailableError("sqlite://", "the answer was lost")
        return held

    def close(self) -> None:
        """Nothing to close."""
