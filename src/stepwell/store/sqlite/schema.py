"""The schema of the tables: which version is stored, and its migration in one transaction."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stepwell.errors import SchemaError
from stepwell.store.migrate import migrations_of
from stepwell.store.sqlite.connection import in_transaction, is_data_error, is_there, missing, unavailable
from stepwell.store.sqlite.file import FileConnection
from stepwell.store.sqlite.forks import INSIDE_SQLITE
from stepwell.store.sqlite.sql import Q

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell.runtime.protocol import Runtime
    from stepwell.store.sqlite.connection import Location

_MIGRATIONS = migrations_of(Path(__file__).parent)
LATEST = len(_MIGRATIONS)


def describe(connection: sqlite3.Connection) -> tuple[int, tuple[str, ...]]:
    """The stored schema version, and the names of the migrations it lacks."""
    known = connection.execute(Q["has_schema"]).fetchone()
    version: int = connection.execute(Q["schema_version"]).fetchone()[0] if known else 0
    return version, tuple(migration.name for migration in _MIGRATIONS[version:])


def describe_file(location: Location, runtime: Runtime) -> tuple[int, tuple[str, ...]]:
    """The same of a file, over a connection of its own; a file that may be created lacks them all."""
    if not is_there(location):
        if location.create and location.file.parent.is_dir():
            return 0, tuple(migration.name for migration in _MIGRATIONS)
        raise missing(location)
    file = FileConnection(location, runtime.pause, read_only=True)
    try:
        with INSIDE_SQLITE:
            return describe(file.connection)
    except sqlite3.Error as error:
        raise unavailable(location, error) from error
    finally:
        file.close()


def migrate(
    connection: sqlite3.Connection, location: Location, runtime: Runtime, transact: Callable[..., None]
) -> None:
    """Creates or upgrades the tables, in one transaction; others that do it at once wait, and find it done."""

    def upgrade() -> None:
        version, _ = describe(connection)
        if version > len(_MIGRATIONS):
            raise wrong_version(location, version)
        for migration in _MIGRATIONS[version:]:
            for statement in _split(migration.sql):
                connection.execute(statement)
            connection.execute(Q["record_migration"], {**migration.named, "now": runtime.wall()})

    try:
        with INSIDE_SQLITE:
            version, missing = describe(connection)
        if missing or version > len(_MIGRATIONS):
            transact(upgrade, write=not location.read_only)
    except sqlite3.Error as error:
        raise error if is_data_error(error) else unavailable(location, error) from error


def migrate_memory(connection: sqlite3.Connection, location: Location, runtime: Runtime) -> None:
    """The same over the connection to a store in memory."""
    migrate(connection, location, runtime, partial(in_transaction, connection, pause=runtime.pause))


def migrate_file(location: Location, runtime: Runtime) -> None:
    """The same in a file, over a connection of its own."""
    file = FileConnection(location, runtime.pause)
    try:
        migrate(file.connection, location, runtime, file.run)
    finally:
        file.close()


def statements(after: int) -> list[str]:
    """What `migrate` runs on tables of that version, in order; connects to nothing."""
    scripts = []
    for migration in _MIGRATIONS[after:]:
        values = (str(migration.number), f"'{migration.name}'", "CAST(strftime('%s', 'now') AS INTEGER) * 1000000")
        recorded = Q["record_migration"].replace(":number, :name, :now", ", ".join(values))
        scripts += [migration.sql, f"{recorded};\n"]
    return scripts


def wrong_version(location: Location, version: int) -> SchemaError:
    """What is wrong with tables of another version, and what to do."""
    latest = len(_MIGRATIONS)
    advice = "upgrade stepwell" if version > latest else "run `stepwell db upgrade`"
    return SchemaError(location.url, version, latest, f"{advice}.")


def _split(script: str) -> list[str]:
    found, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            found.append(current)
            current = ""
    return found
