"""A store with faults on command: calls that stop at a point, that fail, or that took effect and lose their answer.

Each fault names a verb of the protocol or of its reader and hits the next call of it that matches, once. A stop is
awaited by name, so no test needs to guess when something has happened.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, cast

from stepwell import Durable, StoreUnavailableError
from stepwell.runtime.system import SystemRuntime
from stepwell.store_choice import store_for
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from stepwell import Workflow
    from stepwell.runtime.protocol import Runtime
    from stepwell.store.protocol import HeartbeatConnection, Store
    from stepwell.store.records import Advance, Lease, Offer, Verdict

    Commit = Callable[[str, Sequence[Advance]], Awaitable[list[Verdict]]]


def parks(worker_id: str, advances: Sequence[Advance]) -> bool:
    """A batch in which a run begins to wait for a signal."""
    return any(one.awaiting for one in advances)


def times_out(worker_id: str, advances: Sequence[Advance]) -> bool:
    """A batch with an outcome that rests on the absence of a message."""
    return any(one.absent and not one.awaiting and one.rows for one in advances)


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


class WrappedStore:
    """A store around another: every verb of it, and of its reader, goes through `call`; the rest is the store's own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reader = WrappedReader(self)

    def __getattr__(self, name: str) -> Any:
        return self._wrapped(name, getattr(self._store, name))

    async def call(self, verb: str, make: Callable[..., Awaitable[Any]], *given: Any, **named: Any) -> Any:
        """Has one call made, or not."""
        raise NotImplementedError

    def _wrapped(self, name: str, found: Any) -> Any:
        return partial(self.call, name, found) if iscoroutinefunction(found) else found


class WrappedReader:
    """The reader of a store within."""

    def __init__(self, wrapped: WrappedStore) -> None:
        self._of = wrapped

    def __getattr__(self, name: str) -> Any:
        return self._of._wrapped(name, getattr(self._of._store.reader, name))


class FaultyStore(WrappedStore):
    """A store around another; without faults it only remembers what was answered."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._faults: dict[str, list[Stop | _Loss]] = {}
        self._replaced: dict[str, Callable[..., Awaitable[Any]]] = {}
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

    def replace(self, verb: str, by: Callable[..., Awaitable[Any]]) -> None:
        """From now on `by` answers each call: it is given the store's own verb, and then what the call is given."""
        self._replaced[verb] = by

    def is_pending(self, verb: str) -> bool:
        """Whether a fault of this verb has not hit yet."""
        return bool(self._faults.get(verb))

    def answers_of(self, verb: str) -> list[tuple[tuple[Any, ...], Any]]:
        """Arguments and answer of each call of the verb that was applied, in order."""
        return [(given, answer) for name, given, answer in self.answers if name == verb]

    def claims_of(self, run_id: str) -> list[Lease]:
        """Every lease of the run that was given, answered or not, in order."""
        claims = [answer for _, answer in self.answers_of("claim")]
        return [lease for claimed in claims for lease in claimed.leases if lease.run_id == run_id]

    def verdicts_on(self, run_id: str) -> list[Verdict]:
        """Every verdict on an advance of the run, answered or not, in order."""
        return [
            verdict
            for (_, advances), answer in self.answers_of("commit")
            for advance, verdict in zip(advances, answer, strict=True)
            if advance.run_id == run_id
        ]

    def _add(self, verb: str, fault: Stop | _Loss) -> None:
        self._faults.setdefault(verb, []).append(fault)

    async def call(self, verb: str, make: Callable[..., Awaitable[Any]], *given: Any, **named: Any) -> Any:
        """Has the call made, unless a fault hits it."""
        if verb in self._replaced:
            make = partial(self._replaced[verb], make)

        async def applied() -> Any:
            answer = await make(*given, **named)
            self.answers.append((verb, given, answer))
            return answer

        for fault in self._faults.get(verb, []):
            if fault.matches(*given):
                self._faults[verb].remove(fault)
                return await fault.pass_through(applied)
        return await applied()

    async def enlist(self, worker_id: str, host: str, offer: Offer) -> HeartbeatConnection:
        """As the protocol says, or a fault; the heartbeat fails while `hearts_are_cut_off`."""
        return FaultyHeartbeat(await self.call("enlist", self._store.enlist, worker_id, host, offer), self)


def faulty_app(
    url: str, workflows: Iterable[Workflow] = (), *, runtime: Runtime | None = None, **options: Any
) -> tuple[Durable, FaultyStore]:
    """An app, not entered, with a faulty store between it and the one of the URL."""
    runtime = SystemRuntime() if runtime is None else runtime
    faulty = FaultyStore(store_for(url, runtime))
    return Durable(store=cast("Store", faulty), workflows=workflows, runtime=runtime, **options), faulty
