"""A connection to a database file: held by a guard, and sure at the end of each transaction that the file is still it.

A file can be deleted, moved or replaced while a process has it open; what is committed then goes where no
process finds it. So before a commit is acknowledged, or what was read is given, the names of the database and of its
write-ahead log must still be those of the files that this connection opened. If they are not, nothing more is
read or written until they are again, and the store has to be opened again. It is not opened again by itself: SQLite
keeps one index of the log for all connections of a process, so all of them have to be closed first.

Where another database has taken the name, as when a backup was put there, the log and its index are given other names:
SQLite knows a log by its name alone, and would play it into a database that it does not belong to.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from stepwell.errors import StoreUnavailableError
from stepwell.store.sqlite import guard
from stepwell.store.sqlite.connection import Location, connect, in_transaction
from stepwell.store.sqlite.forks import INSIDE_SQLITE

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

T = TypeVar("T")


class FileConnection:
    """A connection to the file of a location, which is closed with `close`."""

    def __init__(
        self,
        location: Location,
        pause: Callable[[float], None],
        *,
        read_only: bool = False,
        like: guard.Identity | None = None,
    ) -> None:
        """Opens it; raises StoreUnavailableError, also if it is not the file `like`."""
        self._location = location
        self._path = path = location.file
        self._log, self._index = f"{path}-wal", f"{path}-shm"
        self._pause = pause
        self._moved = False
        read_only = read_only or location.read_only
        if like is not None and guard.identity_of(path) != like:
            raise self._other()
        self._guard = guard.join(path, location.permissions if location.create and not read_only else None)
        try:
            self.connection: sqlite3.Connection = connect(location, read_only=read_only)
        except BaseException:
            self._part(_nothing)
            raise
        if self._guard is not None:
            guard.hold(self._guard, self._index)
        self.identity: guard.Identity | None = guard.identity_of(path) if self._guard is None else self._guard.identity
        self._log_identity, self._index_identity = guard.identity_of(self._log), guard.identity_of(self._index)
        if like is not None and self.identity != like:
            self.close()
            raise self._other()

    def run(self, work: Callable[[], T], *, write: bool) -> T:
        """What the work gives, in one transaction, which is in the file that has the store's name."""
        if self._moved:
            self._look()
        result = in_transaction(self.connection, work, self._pause, write=write, gate=self._guard if write else None)
        self._look()
        return result

    def close(self) -> None:
        """Closes it; the last one of all removes the write-ahead log."""
        with INSIDE_SQLITE:
            self._part(self.connection.close)

    def check(self) -> None:
        """Raises StoreUnavailableError once the file is not the one that has the store's name any more."""
        if self._is_moved():
            raise self._other()

    def _look(self) -> None:
        self._moved = self._is_moved()
        if self._moved:
            self._put_aside()
            raise self._other()

    def _put_aside(self) -> None:
        """Gives the log and the index other names, if they are ours and the database that has the name is not."""
        if guard.identity_of(self._path) in {None, self.identity}:
            return
        for path, own in ((self._log, self._log_identity), (self._index, self._index_identity)):
            if own is not None and guard.identity_of(path) == own:
                with contextlib.suppress(OSError):
                    Path(path).rename(f"{path}-replaced")

    def _is_moved(self) -> bool:
        return guard.identity_of(self._path) != self.identity or (
            self._log_identity is not None and guard.identity_of(self._log) != self._log_identity
        )

    def _part(self, close: Callable[[], None]) -> None:
        if self._guard is None:
            close()
        else:
            guard.part(self._guard, close, self._pause, is_moved=close is not _nothing and self._is_moved())

    def _other(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            self._location.url,
            f"{self._path}, or the -wal beside it, was deleted, moved or replaced while it was open. Nothing more is "
            "read from it or written to it: leave the app, and enter it again",
        )


def _nothing() -> None:
    """No connection was made that could be closed."""
