"""A worker's beat on PostgreSQL: a connection of its own, on an event loop of its own, in a thread of its own.

So that neither a blocked event loop nor a busy pool can make a living worker silent.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from stepwell.store.postgres.connection import in_time
from stepwell.store.postgres.opening import (
    DRIVER_ERRORS,
    Connection,
    CrowdedError,
    Opener,
    disconnect,
    unavailable,
)
from stepwell.store.postgres.sql import Queries, pairs

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell.store.postgres.location import Location

_CROWDED_PAUSE = 0.2


class PostgresHeartbeat:
    """Beats on request of one other thread."""

    def __init__(self, opener: Opener, queries: Queries, worker_id: str, make_room: Callable[[], None]) -> None:
        self._opener = Opener(opener.location, opener.runtime)  # one for its own event loop
        self._location: Location = opener.location
        self._answer_seconds = opener.runtime.tuning.heartbeat_answer_seconds
        self._queries = queries
        self._make_room = make_room
        self._worker_id = worker_id
        self._connection: Connection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = threading.Event()

    def beat(self) -> dict[str, int] | None:
        """Says that the worker lives; gives the runs leased to it with their tokens, or None: it was declared dead."""
        if self._loop is None:
            self._loop = loop = asyncio.new_event_loop()
            self._opener.runtime.start_thread(lambda: self._main(loop), "stepwell-postgres-beat")
        answer = asyncio.run_coroutine_threadsafe(self._beat(), self._loop)
        try:
            return answer.result(self._opener.connect_seconds + 2 * self._answer_seconds)
        except TimeoutError as error:
            raise unavailable(self._location, error) from error

    def close(self) -> None:
        """Closes the connection and ends the thread."""
        if self._loop is not None:
            with suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(self._answer_seconds)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._ended.wait(self._answer_seconds)
            self._loop = None

    def _main(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()
            self._ended.set()

    async def _beat(self) -> dict[str, int] | None:
        """Beats; on a fresh connection when the one it had is lost, so that it is no beat late for that."""
        try:
            if self._connection is not None and not self._connection.is_closed():
                try:
                    return await self._beat_on(self._connection)
                except DRIVER_ERRORS:
                    self._connection.terminate()
            self._connection = await self._connected()
            return await self._beat_on(self._connection)
        except DRIVER_ERRORS as error:
            if self._connection is not None:
                self._connection.terminate()
            raise unavailable(self._location, error) from error

    async def _connected(self) -> Connection:
        """A connection; where there is no room for it the calls' give one up, since a worker that is silent is dead."""
        runtime = self._opener.runtime
        until = runtime.io_time() + self._answer_seconds
        while True:
            try:
                return await self._opener.open_if_room()
            except CrowdedError as error:
                if runtime.io_time() > until:
                    raise unavailable(self._location, error.__cause__ or error) from error.__cause__
                self._make_room()
            await runtime.io_sleep(_CROWDED_PAUSE)

    async def _beat_on(self, connection: Connection) -> dict[str, int] | None:
        async with in_time(self._opener, connection, self._answer_seconds):
            if await connection.fetchval(*self._queries("beat", worker=self._worker_id)) is None:
                return None
            return pairs(await connection.fetch(*self._queries("held", worker=self._worker_id)))

    async def _close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await disconnect(connection)
