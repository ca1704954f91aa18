"""How a connection to a PostgreSQL server is made: with which settings, and what when there is no room for one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from stepwell.errors import StoreUnavailableError
from stepwell.store.logs import logger
from stepwell.store.postgres.resolving import ResolvingLoop

if TYPE_CHECKING:
    from stepwell.runtime.protocol import Runtime
    from stepwell.store.postgres.location import Location

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
_log = logger("stepwell.store")
_STATEMENTS = 100
"""How many prepared statements a connection keeps; there are not as many queries."""
_CROWDED_PAUSE = 0.2
_IDLE = "idle_in_transaction_session_timeout"  # a process that is stopped in the middle must not keep its locks
_CHECK = "client_connection_check_interval"
_CHECKED_SECONDS = 3.0
_STATEMENT_SECONDS = 35
SETTINGS = {
    "application_name": "stepwell",
    # A call that was given up may wait for a lock in the server: it must not go on waiting, or connections pile up.
    # Measured: a backend whose client is gone leaves a lock's queue after 1.5 s; without this, when the lock is free.
    _CHECK: "2s",
    "default_transaction_isolation": "read committed",
    "enable_seqscan": "off",  # a plan made while a table was empty must not read all of it when it is large
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "statement_timeout": f"{_STATEMENT_SECONDS}s",  # longer than any deadline here: for servers that do not check
    "tcp_keepalives_count": "3",  # nor who is gone without a word
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
}
_OF_A_POOLER = {"application_name"}
_CROWDED_SIGNS = ("too many connections", "too many clients", "no more connections", "max clients", "remaining conn")
_POOLER_SIGNS = ("unsupported startup parameter", "prepared statement")
_POOLER_ADVICE = "if a pooler stands between, add pooled=true to the URL, and listen=HOST:PORT of the server itself"
DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""All that the driver raises when a call fails."""


class CrowdedError(Exception):
    """The server, the role or the pooler allows no connection more; its cause says which."""


class Opener:
    """Makes connections to one location."""

    def __init__(self, location: Location, runtime: Runtime) -> None:
        self.location = location
        self.runtime = runtime
        self._resolving: ResolvingLoop | None = None
        self._checks = not location.pooled

    @property
    def connect_seconds(self) -> float:
        """How long making a connection may take."""
        return self.location.connect_seconds or self.runtime.tuning.connect_seconds

    @property
    def linger_seconds(self) -> float:
        """How long the server may keep what was left in the middle of a call."""
        if self.location.pooled:
            return 0.0
        return _CHECKED_SECONDS if self._checks else _STATEMENT_SECONDS + 1.0

    def to_listen(self) -> Opener:
        """Makes connections to where notifications are sent and heard."""
        there = self.location.to_listen()
        return self if there == self.location else Opener(there, self.runtime)

    async def open(self, **settings: str) -> Connection:
        """A connection to the first of the hosts that takes writes; raises StoreUnavailableError.

        Where others leave no room for one it waits for as long as a connection may take.
        """
        until = self.runtime.io_time() + self.connect_seconds
        while True:
            try:
                return await self.open_if_room(**settings)
            except CrowdedError as error:
                if self.runtime.io_time() + _CROWDED_PAUSE > until:
                    raise unavailable(self.location, error.__cause__ or error) from error.__cause__
            await self.runtime.io_sleep(_CROWDED_PAUSE)

    async def open_if_room(self, **settings: str) -> Connection:
        """The same at once; raises CrowdedError where the server allows no connection more."""
        refusals: list[Exception] = []
        for dsn in self.location.dsns:
            try:
                return await self._connect(dsn, settings)
            except Exception as error:  # noqa: BLE001  the driver reads files and names that a person wrote
                refusals.append(error)
        for refusal in refusals:
            if _is_crowded(refusal):
                raise CrowdedError from refusal
        raise unavailable(self.location, refusals[-1]) from refusals[-1]

    async def _connect(self, dsn: str, settings: dict[str, str]) -> Connection:
        try:
            return await self._connect_once(dsn, settings)
        except asyncpg.PostgresError as error:
            if not self._checks or _CHECK not in str(error):
                raise
            self._checks = False  # the server's system cannot tell, or its version does not know how
            return await self._connect_once(dsn, settings)

    async def _connect_once(self, dsn: str, settings: dict[str, str]) -> Connection:
        location = self.location
        seconds = self.connect_seconds / len(location.dsns)
        loop = asyncio.get_running_loop()
        if self._resolving is None or self._resolving.loop is not loop:
            self._resolving = ResolvingLoop(loop, self.runtime, seconds)
        wanted = {**SETTINGS, _IDLE: milliseconds(self.runtime.tuning.idle_transaction_seconds), **settings}
        if location.pooled:
            wanted = {name: value for name, value in wanted.items() if name in _OF_A_POOLER}
        elif not self._checks:
            del wanted[_CHECK]
        names_one = "target_session_attrs" in location.options
        return await asyncpg.connect(
            dsn,
            loop=cast("Any", self._resolving),
            timeout=seconds,
            target_session_attrs=SessionAttribute.read_write if location.several and not names_one else None,
            server_settings={name: value for name, value in wanted.items() if name not in location.options},
            statement_cache_size=0 if location.pooled else _STATEMENTS,
        )


def milliseconds(seconds: float) -> str:
    """The time as the server's settings have it."""
    return f"{seconds * 1000:.0f}ms"


async def disconnect(connection: Connection) -> None:
    """Closes a connection, whatever has become of it."""
    try:
        await connection.close(timeout=1.0)
    except DRIVER_ERRORS:
        connection.terminate()


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


def tell_crowded(location: Location, kept: int, error: BaseException) -> None:
    """Says that there are fewer connections than wanted."""
    _log.warning(
        "The server of %s allows fewer connections than the %d of this app; going on with %d for calls, "
        "and without notifications where they find no room. Set connections= in the URL: %s",
        location.safe_url,
        location.connections,
        kept,
        error,
    )


def _is_crowded(error: BaseException) -> bool:
    if isinstance(error, asyncpg.TooManyConnectionsError):
        return True
    return isinstance(error, asyncpg.PostgresError) and any(sign in str(error).lower() for sign in _CROWDED_SIGNS)
