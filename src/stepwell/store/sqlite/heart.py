"""A worker's beat on SQLite: a connection of its own for a file, the shared one in memory."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from stepwell.store.sqlite.connection import Location, connect, in_transaction, unavailable
from stepwell.store.sqlite.sql import Q, from_json

if TYPE_CHECKING:
    from stepwell.store.sqlite.turns import Clock


class FileHeart:
    """Beats on a connection that is opened by the thread which uses it."""

    def __init__(self, location: Location, clock: Clock, worker_id: str) -> None:
        self._location = location
        self._clock = clock
        self._worker_id = worker_id
        self._connection: sqlite3.Connection | None = None

    def beat(self) -> dict[str, int] | None:
        """Says that the worker lives; gives the runs leased to it with their tokens, or None when it was buried."""
        try:
            if self._connection is None:
                self._connection = connect(self._location)
            connection = self._connection
            beat = {"id": self._worker_id, "now": self._clock.wall()}
            return in_transaction(connection, lambda: _beat(connection, beat), self._clock.pause, write=True)
        except sqlite3.Error as error:
            self.close()
            raise unavailable(self._location, error) from error

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class MemoryHeart:
    """In memory nobody else can bury the worker, so there is nothing to say."""

    def __init__(self, connection: sqlite3.Connection, worker_id: str) -> None:
        self._connection = connection
        self._worker_id = worker_id

    def beat(self) -> dict[str, int] | None:
        """Gives the runs leased to the worker with their tokens."""
        held: dict[str, int] = from_json(self._connection.execute(Q["held"], (self._worker_id,)).fetchone()[0])
        return held

    def close(self) -> None:
        """Nothing to close: the connection is its owner's."""


def _beat(connection: sqlite3.Connection, beat: dict[str, object]) -> dict[str, int] | None:
    if connection.execute(Q["beat"], beat).rowcount == 0:
        return None
    held: dict[str, int] = from_json(connection.execute(Q["held"], (beat["id"],)).fetchone()[0])
    return held
