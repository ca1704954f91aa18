"""A worker's beat on SQLite: a connection of its own for a file, the shared one in memory."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from stepwell.store.sqlite.connection import Location, unavailable
from stepwell.store.sqlite.file import FileConnection
from stepwell.store.sqlite.sql import Q, from_json

if TYPE_CHECKING:
    from stepwell.runtime.protocol import Runtime
    from stepwell.store.sqlite.guard import Identity


class FileHeartbeat:
    """Beats on a connection that is opened by the thread which uses it, to the file that the store has open."""

    def __init__(self, location: Location, runtime: Runtime, worker_id: str, like: Identity | None) -> None:
        self._location = location._replace(create=False)
        self._runtime = runtime
        self._worker_id = worker_id
        self._like = like
        self._file: FileConnection | None = None

    def beat(self) -> dict[str, int] | None:
        """Says that the worker lives; gives the runs leased to it with their tokens, or None: it was declared dead."""
        try:
            if self._file is None:
                self._file = FileConnection(self._location, self._runtime.pause, like=self._like)
            connection = self._file.connection
            beat = {"id": self._worker_id, "now": self._runtime.wall()}
            return self._file.run(lambda: _beat(connection, beat), write=True)
        except sqlite3.Error as error:
            self.close()
            raise unavailable(self._location, error) from error

    def close(self) -> None:
        """Closes the connection."""
        if self._file is not None:
            self._file.close()
            self._file = None


class MemoryHeartbeat:
    """In memory no other process can expire the worker, so a beat says nothing."""

    def __init__(self, connection: sqlite3.Connection, worker_id: str) -> None:
        self._connection = connection
        self._worker_id = worker_id

    def beat(self) -> dict[str, int] | None:
        """Gives the runs leased to the worker with their tokens."""
        held: dict[str, int] = from_json(self._connection.execute(Q["held"], {"worker": self._worker_id}).fetchone()[0])
        return held

    def close(self) -> None:
        """Nothing to close: the connection is its owner's."""


def _beat(connection: sqlite3.Connection, beat: dict[str, object]) -> dict[str, int] | None:
    if connection.execute(Q["beat"], beat).rowcount == 0:
        return None
    held: dict[str, int] = from_json(connection.execute(Q["held"], {"worker": beat["id"]}).fetchone()[0])
    return held
