"""Signals that arrive together share a statement, as advances share commits.

One statement is on its way at a time, and what arrives meanwhile gathers for the next; so a lone signal waits for
nothing. Rule 1: a statement has one signal of each run, the first that waits for it, so that those of one caller keep
their order and no row is changed twice in one statement. Rule 2: it waits for no lock. A run that another transaction
holds has its signal delivered by a statement of its own, which may wait, and until then the run's other signals stay
behind it. Rule 3: an error that one row is to blame for is only that row's: each is delivered again by itself. When the
connection is lost, only signals with a key are: the others may have arrived.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from stepwell.errors import StoreUnavailableError
from stepwell.store.background import Lasting
from stepwell.store.postgres.connection import is_data_error
from stepwell.store.postgres.sql import columns
from stepwell.store.records import Delivered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell.core.statuses import Status
    from stepwell.store.postgres.connection import Connections
    from stepwell.store.postgres.opening import Connection
    from stepwell.store.postgres.sql import Queries

_CUT_SHORT = "other code cancelled what delivered the signal, which may have arrived"
_MOST_TOGETHER = 256
_MOST_BYTES = 2**20
"""Signals of more bytes than this together are not given to one statement; one at least is."""


class Signal(NamedTuple):
    """A signal for a run; one that is `waiting_only` is for a run that waits for it."""

    run_id: str
    name: str
    value: bytes
    key: str | None
    waiting_only: bool
    receipt: bytes | None


class _Waiting(NamedTuple):
    signal: Signal
    answer: asyncio.Future[Delivered | None]


class _Found(NamedTuple):
    """A run as its signal found it: whether it waited for it, on no worker, and whether the message was written."""

    status: Status
    wakes: bool
    is_parked: bool
    is_written: bool
    lane: int


class Signals:
    """Delivers signals, many in one statement."""

    def __init__(self, connections: Connections, queries: Queries) -> None:
        self._connections = connections
        self._queries = queries
        self._ready: dict[str, deque[_Waiting]] = {}
        self._behind: dict[str, deque[_Waiting]] = {}
        self._delivering: Lasting | None = None
        self._apart: set[Lasting] = set()

    async def deliver(self, signal: Signal) -> Delivered | None:
        """Puts a signal into the run's mailbox; None when there is no such run."""
        waiting = _Waiting(signal, asyncio.get_running_loop().create_future())
        queue = self._behind.get(signal.run_id)
        if queue is None:
            queue = self._ready.setdefault(signal.run_id, deque())
        queue.append(waiting)
        self._go_on()
        return await waiting.answer

    def _go_on(self) -> None:
        if self._ready and (self._delivering is None or self._delivering.is_over):
            self._delivering = Lasting(self._deliver_all, "stepwell-signals")

    async def _deliver_all(self) -> None:
        while self._ready:
            batch = self._next_batch()
            if batch:
                await self._deliver_together(batch)

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        for run_id in list(self._ready)[:_MOST_TOGETHER]:
            queue = self._ready.pop(run_id)
            waiting = queue[0]
            size += len(waiting.signal.value)
            if batch and size > _MOST_BYTES:
                self._ready[run_id] = queue
                break
            queue.popleft()
            if queue:
                self._ready[run_id] = queue  # behind the other runs
            if not waiting.answer.done():  # the caller may have given up
                batch.append(waiting)
        return batch

    async def _deliver_together(self, batch: list[_Waiting]) -> None:
        signals = [waiting.signal for waiting in batch]
        try:
            found = await self._connections.run(
                lambda connection: self._deliver_many(connection, signals), repeatable=False, blames_rows=True
            )
        except asyncio.CancelledError:
            self._fail(batch, self._connections.unavailable(_CUT_SHORT))
            raise
        except Exception as error:  # noqa: BLE001  it is raised in the caller
            self._fail(batch, error)
            return
        for waiting, (is_locked, delivered) in zip(batch, found, strict=True):
            if not is_locked:
                self._deliver_apart(waiting)
            elif not waiting.answer.done():
                waiting.answer.set_result(delivered)

    def _fail(self, batch: list[_Waiting], error: Exception) -> None:
        for waiting in batch:
            if is_data_error(error) or (isinstance(error, StoreUnavailableError) and waiting.signal.key is not None):
                self._deliver_apart(waiting)
            elif not waiting.answer.done():
                waiting.answer.set_exception(error)

    def _deliver_apart(self, waiting: _Waiting) -> None:
        run_id = waiting.signal.run_id
        self._behind[run_id] = self._ready.pop(run_id, deque())
        apart = Lasting(partial(self._deliver_alone, waiting), "stepwell-signal")
        self._apart.add(apart)
        apart.ended.add_done_callback(lambda _: self._apart.discard(apart))

    async def _deliver_alone(self, waiting: _Waiting) -> None:
        signal, answer = waiting
        try:
            if not answer.done():
                delivered = await self._connections.run(
                    lambda connection: self._deliver_one(connection, signal),
                    repeatable=signal.key is not None,
                    waits=True,
                )
                if not answer.done():
                    answer.set_result(delivered)
        except asyncio.CancelledError:
            if signal.key is None and not answer.done():  # one with a key is delivered once more
                answer.set_exception(self._connections.unavailable(_CUT_SHORT))
            raise
        except Exception as error:  # noqa: BLE001  it is raised in the caller
            if not answer.done():
                answer.set_exception(error)
        behind = self._behind.pop(signal.run_id)
        if behind:
            self._ready[signal.run_id] = behind
            self._go_on()

    async def _deliver_many(
        self, connection: Connection, signals: Sequence[Signal]
    ) -> list[tuple[bool, Delivered | None]]:
        """For each, whether its run's row could be locked, and then the answer."""
        found = await connection.fetch(*self._queries("deliver_signals", g=columns(signals, 6)))
        return [
            (is_locked, await self._delivered(connection, signal, _Found(*facts)) if is_locked else None)
            for signal, (is_locked, *facts) in zip(signals, found, strict=True)
        ]

    async def _deliver_one(self, connection: Connection, signal: Signal) -> Delivered | None:
        found = await connection.fetchrow(*self._queries("deliver_signal", **signal._asdict()))
        return None if found is None else await self._delivered(connection, signal, _Found(*found))

    async def _delivered(self, connection: Connection, signal: Signal, found: _Found) -> Delivered:
        status, wakes, is_parked, is_written, lane = found
        if not is_written:
            # asked by a snapshot of its own: the key may have been committed after that of the first statement
            key = {"run_id": signal.run_id, "key": signal.key}
            known = signal.key is not None and await connection.fetchval(*self._queries("has_message_key", **key))
            return Delivered(accepted=bool(known), status=status, woken=False, lane=lane)
        now: Status = "running" if wakes and status == "suspended" else status
        return Delivered(accepted=True, status=now, woken=wakes and is_parked, lane=lane)
