"""PostgreSQL connections: how work is run on one and tried again, and what its errors mean."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import asyncpg

from stepwell.errors import DefinitionError, StoreUnavailableError
from stepwell.store.postgres.opening import (
    DRIVER_ERRORS,
    Connection,
    CrowdedError,
    Opener,
    disconnect,
    milliseconds,
    tell_crowded,
    unavailable,
)
from stepwell.store.records import LEFT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from stepwell.runtime.protocol import Runtime

T = TypeVar("T")
Work: TypeAlias = "Callable[[Connection], Awaitable[T]]"
Around: TypeAlias = "Callable[[Connection], AbstractAsyncContextManager[object]]"
_CROWDED_PAUSE = 0.2
_LAST_SECONDS = 1.0
_LAST_LOOK_SECONDS = 0.01
"""How long calls that are under way at the end have for their answers, and how often to look whether they have them."""
_DATA_ERRORS = (
    asyncpg.exceptions.DataError,
    asyncpg.exceptions.IntegrityConstraintViolationError,
    asyncpg.exceptions.ProgramLimitExceededError,
    OverflowError,
    UnicodeError,
)
"""What the row itself is to blame for: another try, or another run's row, would not fare the same."""
_ERRORS = (*DRIVER_ERRORS, *_DATA_ERRORS)
_ALIVE_AGAIN = (
    asyncpg.exceptions.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.TransactionRollbackError,
    asyncpg.exceptions.InvalidCachedStatementError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,  # what was the primary is a standby now
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # so the driver calls a connection of whose end it has read the half
    OSError,
)
"""What a second try, on another connection, may overcome at once."""


def is_data_error(error: BaseException) -> bool:
    """Whether a row is to blame, not the store."""
    return isinstance(error, _DATA_ERRORS)


class Connections:
    """A few connections for one event loop, made when they are needed; each piece of work has one to itself.

    A call that has room may have a connection open. Room is kept back while the server may still be busy with a
    call that was given up here, so that there are never more connections than the URL allows; and where the server
    allows fewer, until it is time to ask for more.
    """

    def __init__(self, opener: Opener, give_up_another: Callable[[], bool]) -> None:
        most = opener.location.for_calls
        self._opener = opener
        self._location = opener.location
        self._runtime = opener.runtime
        self._give_up_another = give_up_another
        self._idle: list[Connection] = []
        self._busy = 0
        self._room = asyncio.Semaphore(most)
        self._patience = asyncio.Semaphore(max(most // 2, 1))
        self._looks = asyncio.Semaphore(max(most // 4, 1))
        self._most = most
        self._kept_back: list[tuple[float, int]] = []
        self._crowded_out = 0
        self._surplus = 0
        self._has_told = False
        self._working: set[Connection] = set()
        self._closed = False

    async def run(
        self,
        work: Work[T],
        around: Around | None = None,
        *,
        repeatable: bool = True,
        waits: bool = False,
        blames_rows: bool = False,
    ) -> T:
        """What the work gives, which may be done twice if it is `repeatable`; `around`: as of `in_time`.

        What `waits` for others' locks leaves connections to those that do not. Raises StoreUnavailableError, and
        DefinitionError for what the database cannot keep; where one of many rows may be to blame, the driver's error.
        """
        seconds = self._runtime.tuning.long_answer_seconds if waits else self._runtime.tuning.answer_seconds
        async with self._patience if waits else nullcontext():
            return await self._run(work, around, seconds, repeatable=repeatable, blames_rows=blames_rows)

    async def fetch(self, sql: str, *given: object) -> list[asyncpg.Record]:
        """The rows that one statement gives; it may be done twice."""

        async def work(connection: Connection) -> list[asyncpg.Record]:
            return await connection.fetch(sql, *given)

        return await self.run(work)

    async def look(self, work: Work[T]) -> T:
        """As `run`, where all that is read is of one moment.

        A look may read much, and has a quarter of the connections: workers need the others.
        """
        async with self._looks:
            return await self._run(work, _of_one_moment, self._runtime.tuning.long_answer_seconds)

    def unavailable(self, reason: str) -> StoreUnavailableError:
        """That a call was not done, or that it is not known."""
        return StoreUnavailableError(self._location.safe_url, reason)

    async def close(self) -> None:
        """Closes them all; what a slow server does not answer within a moment ends with an error."""
        self._closed = True
        while self._idle:
            await disconnect(self._idle[-1])
            self._idle.pop()
        until = self._runtime.io_time() + _LAST_SECONDS
        while self._working and self._runtime.io_time() < until:
            await self._runtime.io_sleep(_LAST_LOOK_SECONDS)
        self.terminate()

    def terminate(self) -> None:
        """Closes them all without a farewell, which may take its time."""
        self._closed = True
        while self._idle:
            self._idle.pop().terminate()
        for connection in self._working:
            connection.terminate()

    def give_one_up(self) -> bool:
        """Has one connection less for a while, for a heartbeat, which needs one; whether there is one to give."""
        if self._most - self._crowded_out <= 1:
            return False
        if self._idle:
            self._idle.pop().terminate()
        elif self._busy > self._surplus:
            self._surplus += 1
        else:
            return False
        self._do_with_less()
        return True

    async def _run(
        self,
        work: Work[T],
        around: Around | None,
        seconds: float,
        *,
        repeatable: bool = True,
        blames_rows: bool = False,
    ) -> T:
        """Tries once again on a fresh connection when one was lost, if the work may be done twice."""
        await self._room.acquire()
        try:
            if self._closed:
                raise StoreUnavailableError(self._location.safe_url, LEFT)
            try:
                return await self._try(work, around, seconds, fresh=False)
            except _ALIVE_AGAIN as error:
                if is_data_error(error) or not repeatable or self._closed:
                    raise self._translated(error, blames_rows=blames_rows) from error
            except _ERRORS as error:
                raise self._translated(error, blames_rows=blames_rows) from error
            await self._change_room()
            try:
                return await self._try(work, around, seconds, fresh=True)
            except _ERRORS as error:
                raise self._translated(error, blames_rows=blames_rows) from error
        finally:
            self._leave_room()

    async def _try(self, work: Work[T], around: Around | None, seconds: float, *, fresh: bool) -> T:
        connection = await self._take(fresh=fresh)
        self._working.add(connection)
        try:
            async with in_time(self._opener, connection, seconds, around):
                result = await work(connection)
        except BaseException as error:
            self._busy -= 1
            self._working.discard(connection)
            if isinstance(error, asyncpg.PostgresError) and not _is_spoilt(connection, error):
                self._idle.append(connection)
            else:
                if isinstance(error, TimeoutError) or not connection.is_closed():
                    self._kept_back.append((self._opener.linger_seconds, 0))  # the server may still be at it
                connection.terminate()  # a call that was given up is still under way: no caller waits for its answer
            raise
        self._busy -= 1
        self._working.discard(connection)
        if self._closed or self._surplus:
            self._surplus = max(self._surplus - 1, 0)
            await disconnect(connection)
        else:
            self._idle.append(connection)
        return result

    async def _take(self, *, fresh: bool) -> Connection:
        """An idle connection, or a new one; where the server allows no more, what others of this app give back."""
        if fresh:
            idle, self._idle = self._idle, []
            for connection in idle:
                connection.terminate()
        until = self._runtime.io_time() + self._opener.connect_seconds
        while True:
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed():
                    self._busy += 1
                    return connection
            try:
                connection = await self._opener.open_if_room()
            except CrowdedError as error:
                cause = error.__cause__ or error
                if self._busy:
                    self._do_with_less(cause)
                    await self._change_room()
                    continue
                if self._runtime.io_time() > until:
                    raise unavailable(self._location, cause) from cause
                self._give_up_another()
            else:
                self._busy += 1
                return connection
            await self._runtime.io_sleep(_CROWDED_PAUSE)

    def _do_with_less(self, why: BaseException | None = None) -> None:
        """Keeps room back until it is time to ask the server for more."""
        self._crowded_out += 1
        self._kept_back.append((self._runtime.tuning.crowded_out_seconds, 1))
        if why is not None and not self._has_told:
            self._has_told = True
            tell_crowded(self._location, self._busy, why)

    async def _change_room(self) -> None:
        """Leaves what room is to be kept back, and waits for other room."""
        if self._kept_back:
            self._leave_room()
            await self._room.acquire()

    def _leave_room(self) -> None:
        if self._kept_back:
            seconds, crowded_out = self._kept_back.pop()
            self._runtime.io_later(seconds, self._regain_room, crowded_out)
        else:
            self._room.release()

    def _regain_room(self, crowded_out: int) -> None:
        self._crowded_out -= crowded_out
        self._room.release()

    def _translated(self, error: Exception, *, blames_rows: bool) -> Exception:
        if not is_data_error(error) and self._closed:
            return StoreUnavailableError(self._location.safe_url, LEFT)
        if not is_data_error(error):
            return unavailable(self._location, error)
        if blames_rows:
            return error
        return DefinitionError(f"The store {self._location.safe_url} cannot keep what it was given: {error}.")


@asynccontextmanager
async def in_time(
    opener: Opener, connection: Connection, seconds: float, around: Around | None = None
) -> AsyncIterator[None]:
    """Statements within a time and a transaction; without one given, in none, but through a pooler.

    There one has the server to oneself for a transaction only, and it keeps none of a session's settings: a process
    that stops in the middle must lose its locks there, too.
    """
    with _deadline(opener.runtime, connection, seconds):
        async with (around or (in_transaction if opener.location.pooled else _alone))(connection):
            if opener.location.pooled:
                idle = milliseconds(opener.runtime.tuning.idle_transaction_seconds)
                await connection.execute(
                    f"SET LOCAL idle_in_transaction_session_timeout = '{idle}';"
                    f"SET LOCAL statement_timeout = '{seconds + 1:.0f}s'"
                )
            yield


def in_transaction(connection: Connection) -> AbstractAsyncContextManager[object]:
    """A transaction that sees what is committed at each statement."""
    return connection.transaction(isolation="read_committed")


@contextmanager
def _deadline(runtime: Runtime, connection: Connection, seconds: float) -> Iterator[None]:
    """Ends the connection after that many seconds, and what waits on it: also a rollback that is not answered."""
    until = runtime.io_time() + seconds
    timer = runtime.io_later(seconds, connection.terminate)
    try:
        yield
    except DRIVER_ERRORS as error:
        if runtime.io_time() >= until:
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()


def _alone(_connection: Connection) -> AbstractAsyncContextManager[None]:
    return nullcontext()


def _of_one_moment(connection: Connection) -> AbstractAsyncContextManager[object]:
    return connection.transaction(isolation="repeatable_read", readonly=True)


def _is_spoilt(connection: Connection, error: Exception) -> bool:
    return connection.is_closed() or connection.is_in_transaction() or isinstance(error, _ALIVE_AGAIN)
