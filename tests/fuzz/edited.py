"""A store of each kind whose rows tests edit by hand; no test lives here."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from tests.postgres import ask, execute, fresh_url
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

TABLES = ("runs", "inputs", "journal", "mailbox", "names")


class Edited:
    """A store, on a file or a server, and a way to edit its rows."""

    def __init__(self, folder: Path, *, server: bool) -> None:
        self._path = folder / "store.db"
        self._server = server
        self.url = fresh_url() if server else f"sqlite:///{self._path}"

    def edit(self, sql: str, run_id: str) -> None:
        """Runs the statement, with the names of the tables and the id put in."""
        if self._server:
            execute(self._on_server(sql, run_id))
            return
        with closing(sqlite3.connect(self._path, timeout=PATIENCE)) as connection:
            connection.executescript(self._on_file(sql, run_id))

    def read(self, sql: str, run_id: str) -> list[tuple[Any, ...]]:
        """What the query gives."""
        if self._server:
            return [tuple(row) for row in ask(self._on_server(sql, run_id))]
        with closing(sqlite3.connect(self._path, timeout=PATIENCE)) as connection:
            return connection.execute(self._on_file(sql, run_id)).fetchall()

    def _on_file(self, sql: str, run_id: str) -> str:
        return sql.format(id=run_id, **{name: f"stepwell_{name}" for name in TABLES})

    def _on_server(self, sql: str, run_id: str) -> str:
        schema = self.url.rpartition("=")[2]
        named = {name: f'"{schema}".{name}' for name in TABLES}
        return sql.replace("ref = (SELECT ref", "run_id = (SELECT id").format(id=run_id, **named)
