"""SQLite connections: how they are opened, how a transaction is run on one, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar
from urllib.parse import parse_qsl, quote, unquote

from stepwell.errors import DefinitionError, StoreUnavailableError
from stepwell.store.sqlite.forks import INSIDE_SQLITE
from stepwell.store.urls import without_password

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_BUSY_RETRY_SECONDS = 0.0005
_BUSY_GIVE_UP_SECONDS = 30.0
PRIVATE = 0o600
"""The permissions of a file, if no others are asked for."""
_OPTIONS = {"mode": ("rw", "ro", "rwc")}
_DATA_ERRORS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
)
"""What the row itself is to blame for: another try, or another run's row, would not fare the same."""


class Location(NamedTuple):
    """Where a store is: a file's path, or None for memory; whether it may only be read, or be made, and for whom."""

    url: str
    path: Path | None
    read_only: bool
    create: bool
    permissions: int = PRIVATE

    @property
    def file(self) -> Path:
        """The path of a store that is a file."""
        if self.path is None:
            raise ValueError(f"{self.url} is in memory")
        return self.path


def location_of(url: str, permissions: int = PRIVATE) -> Location:
    """Reads `sqlite:///relative.db`, `sqlite:////absolute.db`, `sqlite://`, with `?mode=ro|rw|rwc`."""
    rest = url.removeprefix("sqlite://")
    path, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in options.items():
        if value not in _OPTIONS.get(name, ()):
            known = "mode=ro, mode=rw, mode=rwc"
            raise DefinitionError(f"The store URL {without_password(url)} has an unknown option. Known: {known}.")
    mode = options.get("mode", "rwc")
    if path in {"", "/", "/:memory:"}:
        return Location(url, None, read_only=False, create=True)
    if not path.startswith("/"):
        raise DefinitionError(
            f"The store URL {without_password(url)} names a host. A relative file is sqlite:///file.db."
        )
    resolved = _resolved(url, unquote(path[1:]))
    return Location(url, resolved, read_only=mode == "ro", create=mode == "rwc", permissions=permissions)


def _resolved(url: str, path: str) -> Path:
    """The file itself, whatever folder the process changes to later and through whatever link it is named.

    The names of the files beside it are made from its name: two names of one database would have two write-ahead logs.
    """
    try:
        return Path(os.path.realpath(path))
    except OSError as error:
        shown = without_password(url)
        raise DefinitionError(f"The store URL {shown} is relative to a folder that is gone ({error}).") from error


def is_there(location: Location) -> bool:
    """Whether there is something at the store's path; raises StoreUnavailableError where that cannot be seen."""
    try:
        return location.path is not None and location.path.exists()
    except OSError as error:
        raise StoreUnavailableError(location.url, f"{location.path} cannot be looked for ({error.strerror})") from error


def connect(location: Location, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode, in WAL mode and with full durability; raises StoreUnavailableError."""
    try:
        with INSIDE_SQLITE:
            return _connect(location, read_only=read_only or location.read_only)
    except sqlite3.Error as error:
        raise unavailable(location, error) from error


def _connect(location: Location, *, read_only: bool) -> sqlite3.Connection:
    if location.path is None:
        return _with_pragmas(
            sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False), read_only=False
        )
    mode = "ro" if read_only else "rwc" if location.create else "rw"
    name = f"file:{quote(os.fsencode(location.path))}?mode={mode}"
    connection = sqlite3.connect(name, uri=True, timeout=10, isolation_level=None, check_same_thread=False)
    try:
        return _with_pragmas(connection, read_only=read_only)
    except BaseException:
        connection.close()
        raise


def _with_pragmas(connection: sqlite3.Connection, *, read_only: bool) -> sqlite3.Connection:
    if not read_only:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    else:
        connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA cache_size = -65536")
    connection.execute("PRAGMA busy_timeout = 0")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return connection


def is_busy(error: BaseException) -> bool:
    """Whether another connection holds the lock for the moment."""
    return isinstance(error, sqlite3.OperationalError) and (getattr(error, "sqlite_errorcode", 0) & 0xFF) in {5, 6}


def is_data_error(error: BaseException) -> bool:
    """Whether a row is to blame, not the store."""
    return isinstance(error, _DATA_ERRORS)


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112  pathlib raises where a folder above it is shut


def missing(location: Location) -> StoreUnavailableError:
    """What a person should know where there is no file, or no folder for one."""
    folder = location.file.parent
    text = f"there is no file {location.file}" if _is_folder(folder) else f"no such folder as {folder}"
    return StoreUnavailableError(location.url, text)


def unavailable(location: Location, error: BaseException) -> StoreUnavailableError:
    """What a person should know of a failure of SQLite's."""
    path = location.path
    text = str(error)
    if "not a database" in text or "malformed" in text:
        text = f"{path} is damaged, or not an SQLite database ({text})"
    elif "readonly" in text and path is not None and not os.access(path.parent, os.W_OK):
        text = f"SQLite writes beside {path}, also to read it, and the folder {path.parent} is not writable ({text})"
    elif "readonly" in text:
        text = f"{path} can only be read ({text})"
    elif "unable to open" in text and path is not None:
        text = (
            f"no such folder as {path.parent}" if not _is_folder(path.parent) else f"{path} cannot be opened ({text})"
        )
    elif "full" in text:
        text = f"the disk under {path} is full ({text})"
    return StoreUnavailableError(location.url, text)


class Gate(Protocol):
    """What lets one write transaction at a time begin."""

    def enter(self) -> bool:
        """Whether it may begin now."""

    def leave(self) -> None:
        """It has ended."""


def in_transaction(
    connection: sqlite3.Connection,
    work: Callable[[], T],
    pause: Callable[[float], None],
    *,
    write: bool,
    gate: Gate | None = None,
) -> T:
    """Runs the work in one transaction, waiting for other writers in small steps; nothing stays open afterwards."""
    waited = 0.0
    while True:
        if gate is None or gate.enter():
            try:
                with INSIDE_SQLITE:
                    return _transacted(connection, work, write=write)
            except sqlite3.OperationalError as error:
                if not is_busy(error) or waited >= _BUSY_GIVE_UP_SECONDS:
                    raise
            finally:
                if gate is not None:
                    gate.leave()
        elif waited >= _BUSY_GIVE_UP_SECONDS:
            raise sqlite3.OperationalError("database is locked")
        pause(_BUSY_RETRY_SECONDS)
        waited += _BUSY_RETRY_SECONDS


def _transacted(connection: sqlite3.Connection, work: Callable[[], T], *, write: bool) -> T:
    try:
        connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        result = work()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result
