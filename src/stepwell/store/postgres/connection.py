"""PostgreSQL connections: how work is run on one and tried again, and what its errors mean."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from stepwell.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from stepwell.store.postgres.location import Location

T = TypeVar("T")
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Work: TypeAlias = "Callable[[Connection], Awaitable[T]]"
Around: TypeAlias = "Callable[[Connection], AbstractAsyncContextManager[object]]"
_STATEMENTS = 100
"""How many prepared statements a connection keeps; there are not as many queries."""
_MOST = 8
"""How many connections a store has at once, besides those for beats and notifications."""
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 10.0
"""An answer that takes longer was lost: half-open connections never tell."""
_LONG_ANSWER_SECONDS = 30.0
"""The same where others' locks are waited for, or much is read."""
_NAME = {"application_name": "stepwell"}
_IDLE = "15s"
_SETTINGS = {
    **_NAME,
    "default_transaction_isolation": "read committed",
    "enable_seqscan": "off",  # a plan made while a table was empty must not read all of it when it is large
    "idle_in_transaction_session_timeout": _IDLE,  # whoever is stopped in the middle must not keep its locks
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "tcp_keepalives_count": "3",  # nor who is gone without a word
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
}
_POOLER_SIGNS = ("unsupported startup parameter", "prepared statement")
_POOLER_ADVICE = "if a pooler stands between, add pooled=true to the URL, and listen=HOST:PORT of the server itself"
_DATA_ERRORS = (
    asyncpg.exceptions.DataError,
    asyncpg.exceptions.IntegrityConstraintViolationError,
    asyncpg.exceptions.ProgramLimitExceededError,
    OverflowError,
    UnicodeError,
)
"""What the row itself is to blame for: another try, or another run's row, would not fare the same."""
DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""All that the driver raises when a call fails."""
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


async def connect(location: Location, **settings: str) -> Connection:
    """A new connection to the first of the hosts that takes writes; raises StoreUnavailableError."""
    refusals: list[Exception] = []
    for dsn in location.dsns:
        try:
            return await asyncpg.connect(
                dsn,
                timeout=CONNECT_SECONDS / len(location.dsns),
                target_session_attrs=SessionAttribute.read_write if location.several else None,
                server_settings=_NAME if location.pooled else {**_SETTINGS, **settings},
                statement_cache_size=0 if location.pooled else _STATEMENTS,
            )
        except (*DRIVER_ERRORS, ValueError) as error:
            refusals.append(error)
    raise unavailable(location, refusals[-1]) from refusals[-1]


async def disconnect(connection: Connection) -> None:
    """Closes a connection, whatever has become of it."""
    try:
        await connection.close(timeout=1.0)
    except DRIVER_ERRORS:
        connection.terminate()


def is_data_error(error: BaseException) -> bool:
    """Whether a row is to blame, not the store."""
    return isinstance(error, _DATA_ERRORS)


def unavailable(location: Location, error: BaseException) -> StoreUnavailableError:
    """What a person should know of a failure of the database's."""
    text = str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        text = "it did not answer in time"
    elif isinstance(error, asyncpg.exceptions.UndefinedTableError):
        text = f'its tables are gone from the schema "{location.schema}" ({text})'
    elif not location.pooled and any(sign in text for sign in _POOLER_SIGNS):
        text = f"{text}; {_POOLER_ADVICE}"
    return StoreUnavailableError(location.safe_url, text)


class Connections:
    """A few connections for one event loop, made when they are needed; each piece of work has one to itself."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._idle: list[Connection] = []
        self._room = asyncio.Semaphore(_MOST)
        self._patience = asyncio.Semaphore(_MOST // 2)
        self._closed = False

    async def run(
        self, work: Work[T], around: Around | None = None, *, repeatable: bool = True, waits: bool = False
    ) -> T:
        """What the work gives, which may be done twice if it is `repeatable`; `around`: as of `turn`.

        What `waits` for others' locks leaves connections to those that do not.
        """
        seconds = _LONG_ANSWER_SECONDS if waits else ANSWER_SECONDS
        async with self._patience if waits else nullcontext():
            return await self._run(work, around, seconds, repeatable=repeatable)

    async def fetch(self, sql: str, *given: object) -> list[asyncpg.Record]:
        """The rows that one statement gives; it may be done twice."""

        async def work(connection: Connection) -> list[asyncpg.Record]:
            return await connection.fetch(sql, *given)

        return await self.run(work)

    async def look(self, work: Work[T]) -> T:
        """As `run`, where all that is read is of one moment."""
        return await self._run(work, _of_one_moment, _LONG_ANSWER_SECONDS)

    async def close(self) -> None:
        """Closes them all."""
        self._closed = True
        while self._idle:
            await disconnect(self._idle[-1])
            self._idle.pop()

    def terminate(self) -> None:
        """Closes them all without a farewell, which may take its time."""
        self._closed = True
        while self._idle:
            self._idle.pop().terminate()

    async def _run(self, work: Work[T], around: Around | None, seconds: float, *, repeatable: bool = True) -> T:
        """Tries once again on a fresh connection when one was lost, if the work may be done twice."""
        async with self._room:
            try:
                return await self._try(work, around, seconds, fresh=False)
            except _ALIVE_AGAIN as error:
                if is_data_error(error) or not repeatable:
                    raise self._translated(error) from error
            except DRIVER_ERRORS as error:
                raise self._translated(error) from error
            try:
                return await self._try(work, around, seconds, fresh=True)
            except DRIVER_ERRORS as error:
                raise self._translated(error) from error

    async def _try(self, work: Work[T], around: Around | None, seconds: float, *, fresh: bool) -> T:
        connection = await self._take(fresh=fresh)
        try:
            async with turn(self._location, connection, seconds, around):
                result = await work(connection)
        except BaseException as error:
            if isinstance(error, asyncpg.PostgresError) and not _is_spoilt(connection, error):
                self._idle.append(connection)
            else:
                connection.terminate()  # a call that was given up is still under way: its answer is nobody's
            raise
        if self._closed:
            await disconnect(connection)
        else:
            self._idle.append(connection)
        return result

    async def _take(self, *, fresh: bool) -> Connection:
        if fresh:
            idle, self._idle = self._idle, []
            for connection in idle:
                connection.terminate()
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return await connect(self._location)

    def _translated(self, error: Exception) -> Exception:
        return error if is_data_error(error) else unavailable(self._location, error)


@asynccontextmanager
async def turn(
    location: Location, connection: Connection, seconds: float, around: Around | None = None
) -> AsyncIterator[None]:
    """Statements within a time and a transaction; without one given, in none, but through a pooler.

    There one has the server to oneself for a transaction only, and it keeps none of a session's settings: whoever is
    stopped in the middle must lose its locks there, too.
    """
    with _deadline(connection, seconds):
        async with (around or (in_transaction if location.pooled else _alone))(connection):
            if location.pooled:
                await connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{_IDLE}'")
            yield


def in_transaction(connection: Connection) -> AbstractAsyncContextManager[object]:
    """A transaction that sees what is committed at each statement."""
    return connection.transaction(isolation="read_committed")


@contextmanager
def _deadline(connection: Connection, seconds: float) -> Iterator[None]:
    """Ends the connection after so many seconds, and so whatever waits on it: a rollback, too, that nobody answers."""
    loop = asyncio.get_running_loop()
    timer = loop.call_later(seconds, connection.terminate)
    try:
        yield
    except DRIVER_ERRORS as error:
        if timer.when() <= loop.time():
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
