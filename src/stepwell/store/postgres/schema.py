"""The schema of the tables: which version is stored, and its migration, under a lock that one process holds."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from stepwell.errors import SchemaError
from stepwell.store.migrate import migrations_of
from stepwell.store.postgres.connection import in_time, in_transaction
from stepwell.store.postgres.opening import DRIVER_ERRORS, Connection, Opener, disconnect, unavailable
from stepwell.store.postgres.sql import in_schema

if TYPE_CHECKING:
    from stepwell.store.postgres.location import Location
    from stepwell.store.postgres.sql import Queries

_MIGRATIONS = migrations_of(Path(__file__).parent)
_LOCKS = 0x73746570
"""The first half of the lock's key, the same for every schema of stepwell's."""


async def describe(opener: Opener, queries: Queries) -> tuple[int, tuple[str, ...]]:
    """The stored schema version, and the names of the migrations it lacks."""
    location = opener.location
    connection = await opener.open()
    try:
        async with in_time(opener, connection, opener.runtime.tuning.answer_seconds, in_transaction):
            return await _describe(connection, location, queries)
    except DRIVER_ERRORS as error:
        raise unavailable(location, error) from error
    finally:
        await disconnect(connection)


async def migrate(opener: Opener, queries: Queries) -> None:
    """Creates or upgrades the tables, in one transaction; others that do it at once wait, and find it done."""
    location = opener.location
    connection = await opener.open(statement_timeout="0")
    try:
        async with in_time(opener, connection, opener.runtime.tuning.answer_seconds, in_transaction):
            version, missing = await _describe(connection, location, queries)
        if missing:
            async with in_transaction(connection):
                lock = zlib.crc32(location.schema.encode()) & 0x7FFFFFFF
                await connection.execute("SELECT pg_advisory_xact_lock($1::integer, $2::integer)", _LOCKS, lock)
                await _upgrade(connection, location, queries)
        elif version > len(_MIGRATIONS):
            raise wrong_version(location, version)
    except DRIVER_ERRORS as error:
        raise unavailable(location, error) from error
    finally:
        await disconnect(connection)


def statements(location: Location, queries: Queries, after: int) -> list[str]:
    """What `migrate` runs on tables of that version, for someone else to run in one transaction."""
    scripts = [f'CREATE SCHEMA IF NOT EXISTS "{location.schema}";\n'] if after == 0 else []
    for migration in _MIGRATIONS[after:]:
        recorded = queries.texts["record_migration"].replace("$number", str(migration.number))
        recorded = recorded.replace("$name", f"'{migration.name}'")
        scripts += [in_schema(migration.sql, location.schema), f"{recorded};\n"]
    return scripts


def wrong_version(location: Location, version: int) -> SchemaError:
    """What is wrong with tables of another version, and what to do."""
    latest = len(_MIGRATIONS)
    advice = "upgrade stepwell" if version > latest else "run `stepwell db upgrade`"
    return SchemaError(location.safe_url, version, latest, f"{advice}.")


async def _upgrade(connection: Connection, location: Location, queries: Queries) -> None:
    version, _ = await _describe(connection, location, queries)
    exists = "SELECT 1 FROM pg_namespace WHERE nspname = $1"
    if await connection.fetchval(exists, location.schema) is None:
        await connection.execute(f'CREATE SCHEMA "{location.schema}"')
    for migration in _MIGRATIONS[version:]:
        await connection.execute(in_schema(migration.sql, location.schema))
        await connection.execute(*queries("record_migration", number=migration.number, name=migration.name))


async def _describe(connection: Connection, location: Location, queries: Queries) -> tuple[int, tuple[str, ...]]:
    known = await connection.fetchval(*queries("has_schema", schema=location.schema))
    version: int = await connection.fetchval(*queries("schema_version")) if known else 0
    return version, tuple(migration.name for migration in _MIGRATIONS[version:])
