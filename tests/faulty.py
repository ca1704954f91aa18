"""A store with faults on command: calls that stop at a point, that fail, or that took effect and lose their answer.

Each fault names a verb of the protocol and hits the next call of it that matches, once. A stop is awaited by name, so
no test needs to guess when something has happened.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepwell.errors import StoreUnavailableError
from stepwell.store.protocol import LOAD_BYTES, NO_OFFER
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from stepwell import Durable
    from stepwell.core.mailbox import MessageName
    from stepwell.store.protocol import (
        Advance,
        Claimed,
        Definition,
        Delivered,
        Found,
        HeartbeatConnection,
        History,
        Lease,
        NewRun,
        Offer,
        Started,
        Store,
        Verdict,
        Wanted,
        WorkerRow,
    )
    from stepwell.store.reading import Reader


def parks(worker_id: str, advances: Sequence[Advance]) -> bool:
    """A batch in which a run begins to wait for a signal."""
    return any(one.awaiting is not None for one in advances)


def times_out(worker_id: str, advances: Sequence[Advance]) -> bool:
    """A batch with an outcome that rests on the absence of mail."""
    return any(one.absent is not None and one.rows for one in advances)


def _always(*arguments: Any) -> bool:
    return True


@dataclass(eq=False)
class Stop:
    """A point where one call stands still: before it is applied, or with its answer on the way."""

    applied_first: bool
    matches: Callable[..., bool]
    answer: Any = None
    _reached: asyncio.Event = field(default_factory=asyncio.Event)
    _released: asyncio.Event = field(default_factory=asyncio.Event)
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    async def reached(self) -> None:
        """Waits until the call stands at this point."""
        await asyncio.wait_for(self._reached.wait(), PATIENCE)

    def release(self) -> None:
        """Lets the call go on."""
        self._released.set()

    async def released(self) -> Any:
        """Lets the call go on and waits for what the store answers."""
        self.release()
        await asyncio.wait_for(self._over.wait(), PATIENCE)
        return self.answer

    async def pass_through(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Has one call made, with the stop before or after it; the call is made even if nobody awaits it any more."""
        if self.applied_first:
            self.answer = await call()
        self._reached.set()
        going_on = asyncio.ensure_future(self._go_on(call))
        return await asyncio.shield(going_on)

    async def _go_on(self, call: Callable[[], Awaitable[Any]]) -> Any:
        await self._released.wait()
        if not self.applied_first:
            self.answer = await call()
        self._over.set()
        return self.answer


@dataclass(eq=False)
class _Loss:
    """A call that fails: not applied, or applied with its answer lost."""

    applied_first: bool
    matches: Callable[..., bool]

    async def pass_through(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Has the call made, if at all, and raises."""
        if self.applied_first:
            await call()
        raise StoreUnavailableError("faulty", "the answer was lost" if self.applied_first else "it is away")


class FaultyHeartbeat:
    """A heartbeat connection that finds no store while its store is cut off."""

    def __init__(self, heartbeat_connection: HeartbeatConnection, store: FaultyStore) -> None:
        self._heartbeat_connection = heartbeat_connection
        self._store = store

    def beat(self) -> dict[str, int] | None:
        """The beat of the connection within, unless its store is cut off."""
        if self._store.hearts_are_cut_off:
            raise StoreUnavailableError("faulty", "it is away")
        return self._heartbeat_connection.beat()

    def close(self) -> None:
        """Closes the connection within."""
        self._heartbeat_connection.close()


class FaultyStore:
    """A store around another; without faults it only remembers what was answered."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.url, self.latest, self.shared = store.url, store.latest, store.shared
        self.sees_death = store.sees_death
        self._faults: dict[str, list[Stop | _Loss]] = {}
        self.hearts_are_cut_off = False
        self.answers: list[tuple[str, tuple[Any, ...], Any]] = []
        """Verb, arguments and answer of each call that was applied, in order."""

    def stop_before(self, verb: str, matches: Callable[..., bool] = _always) -> Stop:
        """The next matching call stands still before it is applied."""
        stop = Stop(applied_first=False, matches=matches)
        self._add(verb, stop)
        return stop

    def stop_after(self, verb: str, matches: Callable[..., bool] = _always) -> Stop:
        """The next matching call is applied, and its answer stands still."""
        stop = Stop(applied_first=True, matches=matches)
        self._add(verb, stop)
        return stop

    def fail(self, verb: str, matches: Callable[..., bool] = _always) -> None:
        """The next matching call is not applied, and fails."""
        self._add(verb, _Loss(applied_first=False, matches=matches))

    def lose_answer(self, verb: str, matches: Callable[..., bool] = _always) -> None:
        """The next matching call is applied, and fails."""
        self._add(verb, _Loss(applied_first=True, matches=matches))

    def is_pending(self, verb: str) -> bool:
        """Whether a fault of this verb has not hit yet."""
        return bool(self._faults.get(verb))

    def claims_of(self, run_id: str) -> list[Lease]:
        """Every lease of the run that was given, answered or not, in order."""
        claims = [answer for verb, _, answer in self.answers if verb == "claim"]
        return [lease for claimed in claims for lease in claimed.leases if lease.run_id == run_id]

    def verdicts_on(self, run_id: str) -> list[Verdict]:
        """Every verdict on an advance of the run, answered or not, in order."""
        return [
            verdict
            for verb, (_, advances), answer in self._of("commit")
            for advance, verdict in zip(advances, answer, strict=True)
            if advance.run_id == run_id
        ]

    def _of(self, verb: str) -> list[tuple[str, tuple[Any, ...], Any]]:
        return [each for each in self.answers if each[0] == verb]

    def _add(self, verb: str, fault: Stop | _Loss) -> None:
        self._faults.setdefault(verb, []).append(fault)

    async def _through(self, verb: str, *arguments: Any, **named: Any) -> Any:
        async def call() -> Any:
            answer = await getattr(self._store, verb)(*arguments, **named)
            self.answers.append((verb, arguments, answer))
            return answer

        for fault in self._faults.get(verb, []):
            if fault.matches(*arguments):
                self._faults[verb].remove(fault)
                return await fault.pass_through(call)
        return await call()

    @property
    def reader(self) -> Reader:
        """That of the store within."""
        return self._store.reader

    async def open(self) -> None:
        """As the protocol says."""
        await self._store.open()

    async def close(self) -> None:
        """As the protocol says."""
        await self._store.close()

    async def migrate(self) -> None:
        """As the protocol says."""
        await self._store.migrate()

    async def schema(self) -> tuple[int, tuple[str, ...]]:
        """As the protocol says."""
        return await self._store.schema()

    def statements(self, after: int) -> list[str]:
        """As the protocol says."""
        return self._store.statements(after)

    async def define(self, definitions: Sequence[Definition]) -> list[int]:
        """As the protocol says, unless a fault hits it; so are the verbs that follow."""
        answer: list[int] = await self._through("define", definitions)
        return answer

    async def start(self, runs: Sequence[NewRun]) -> list[Started]:
        """As the protocol says, or a fault."""
        answer: list[Started] = await self._through("start", runs)
        return answer

    async def claim(self, worker_id: str, lanes: Sequence[int], limit: int, suspects: int, **room: Any) -> Claimed:
        """As the protocol says, or a fault."""
        answer: Claimed = await self._through("claim", worker_id, lanes, limit, suspects, **room)
        return answer

    async def load(self, wanted: Sequence[Wanted], most_bytes: int = LOAD_BYTES) -> Mapping[str, History]:
        """As the protocol says, or a fault."""
        answer: Mapping[str, History] = await self._through("load", wanted, most_bytes)
        return answer

    async def find_message(self, lease: Lease, name: MessageName, after: int) -> Found:
        """As the protocol says, or a fault."""
        answer: Found = await self._through("find_message", lease, name, after)
        return answer

    async def commit(self, worker_id: str, advances: Sequence[Advance]) -> list[Verdict]:
        """As the protocol says, or a fault."""
        answer: list[Verdict] = await self._through("commit", worker_id, advances)
        return answer

    async def deliver(
        self, run_id: str, name: str, value: bytes, *, key: str | None, waiting_only: bool
    ) -> Delivered | None:
        """As the protocol says, or a fault."""
        answer: Delivered | None = await self._through(
            "deliver", run_id, name, value, key=key, waiting_only=waiting_only
        )
        return answer

    async def cancel(self, run_id: str) -> list[str] | None:
        """As the protocol says, or a fault."""
        answer: list[str] | None = await self._through("cancel", run_id)
        return answer

    async def enlist(self, worker_id: str, host: str, offer: Offer = NO_OFFER) -> HeartbeatConnection:
        """As the protocol says, or a fault."""
        return FaultyHeartbeat(await self._through("enlist", worker_id, host, offer), self)

    async def serve(self, worker_id: str, lanes: Sequence[int]) -> None:
        """As the protocol says, or a fault."""
        await self._through("serve", worker_id, lanes)

    async def retire(self, worker_id: str) -> None:
        """As the protocol says, or a fault."""
        await self._through("retire", worker_id)

    async def give_back(self, worker_id: str, tokens: Mapping[str, int], delay: int = 0) -> None:
        """As the protocol says, or a fault."""
        await self._through("give_back", worker_id, tokens, delay)

    async def workers(self) -> list[WorkerRow]:
        """As the protocol says, or a fault."""
        answer: list[WorkerRow] = await self._through("workers")
        return answer

    async def expire(self, worker_id: str, silent_for: int | None) -> int | None:
        """As the protocol says, or a fault."""
        answer: int | None = await self._through("expire", worker_id, silent_for)
        return answer

    async def sweep(self) -> int:
        """As the protocol says, or a fault."""
        answer: int = await self._through("sweep")
        return answer


def make_faulty(app: Durable) -> FaultyStore:
    """Puts faults between an app that is not entered yet and its store."""
    faulty = FaultyStore(app._store)
    app._store = faulty
    return faulty
