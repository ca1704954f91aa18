"""PostgreSQL connections: how a URL is read, how work is run on one and tried again, and what its errors mean."""

from __future__ import annotations

import asyncio
import re
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg

from stepwell.errors import DefinitionError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_MOST = 8
"""How many connections a store has at once, besides those for beats and notifications."""
CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 30.0
"""An answer that takes longer was lost: half-open connections never tell."""
_SETTINGS = {
    "application_name": "stepwell",
    "default_transaction_isolation": "read committed",
    "enable_seqscan": "off",  # a plan made while a table was empty must not read all of it when it is large
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
}
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


class Location(NamedTuple):
    """Where a store is: the driver's DSN, the schema of its tables, and the URL without its password."""

    dsn: str
    schema: str
    safe_url: str


def location_of(url: str) -> Location:
    """Reads `postgresql://user@host/database?schema=name`; other options are the driver's."""
    try:
        parts = urlsplit(url)
        password, _ = parts.password, parts.port
    except ValueError as error:
        raise DefinitionError(f"The store's URL cannot be read: {error}.") from None
    options = parse_qsl(parts.query, keep_blank_values=True)
    schema = dict(options).get("schema", "stepwell")
    if not _SCHEMA.fullmatch(schema):
        raise DefinitionError(f'The schema "{schema}" is not a name of lower-case letters, digits and _.')
    rest = urlencode([(name, value) for name, value in options if name != "schema"], quote_via=quote)
    safe_url = url.replace(f":{password}@", ":***@", 1) if password else url
    return Location(urlunsplit(parts._replace(scheme="postgresql", query=rest)), schema, safe_url)


async def connect(location: Location, **settings: str) -> Connection:
    """A new connection; raises StoreUnavailableError."""
    try:
        return await asyncpg.connect(
            location.dsn, timeout=CONNECT_SECONDS, server_settings={**_SETTINGS, **settings}, command_timeout=None
        )
    except (*DRIVER_ERRORS, ValueError) as error:
        raise unavailable(location, error) from error


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
    return StoreUnavailableError(location.safe_url, text)


class Connections:
    """A few connections for one event loop, made when they are needed; each piece of work has one to itself."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._idle: list[Connection] = []
        self._room = asyncio.Semaphore(_MOST)
        self._patience = asyncio.Semaphore(_MOST // 2)
        self._closed = False

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, repeatable: bool = True) -> T:
        """What the work gives; tried once again on a fresh connection when one was lost, if it may be done twice."""
        async with self._room:
            try:
                return await self._run(work, fresh=False)
            except _ALIVE_AGAIN as error:
                if is_data_error(error) or not repeatable:
                    raise self._translated(error) from error
            except DRIVER_ERRORS as error:
                raise self._translated(error) from error
            try:
                return await self._run(work, fresh=True)
            except DRIVER_ERRORS as error:
                raise self._translated(error) from error

    async def fetch(self, sql: str, *given: object) -> list[asyncpg.Record]:
        """The rows that one statement gives; it may be done twice."""

        async def work(connection: Connection) -> list[asyncpg.Record]:
            return await connection.fetch(sql, *given)

        return await self.run(work)

    async def transact(
        self, work: Callable[[Connection], Awaitable[T]], *, repeatable: bool = True, waits: bool = False
    ) -> T:
        """As `run`, in one transaction; one that `waits` for others' locks leaves connections to those that do not."""

        async def in_transaction(connection: Connection) -> T:
            async with connection.transaction():
                return await work(connection)

        async with self._patience if waits else nullcontext():
            return await self.run(in_transaction, repeatable=repeatable)

    async def look(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """As `run`, where all that is read is of one moment."""

        async def in_transaction(connection: Connection) -> T:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                return await work(connection)

        return await self.run(in_transaction)

    async def close(self) -> None:
        """Closes them all."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            await disconnect(connection)

    async def _run(self, work: Callable[[Connection], Awaitable[T]], *, fresh: bool) -> T:
        connection = await self._take(fresh=fresh)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                result = await work(connection)
        except BaseException as error:
            if isinstance(error, asyncpg.PostgresError) and not _is_spoilt(connection):
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


def _is_spoilt(connection: Connection) -> bool:
    return connection.is_closed() or connection.is_in_transaction()
