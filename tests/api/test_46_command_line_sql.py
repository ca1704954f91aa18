"""`db sql`: what it prints makes exactly the tables that `db upgrade` makes, whoever runs it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from stepwell import Durable
from stepwell.store.migrate import Migration
from stepwell.store.postgres import schema as postgres_schema
from stepwell.store.postgres.store import PostgresStore
from stepwell.store.sqlite import schema as sqlite_schema
from tests.api.command_line import Shop, shop_in
from tests.postgres import apart, dsn, execute, fresh_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CATALOG = (
    """SELECT table_name, column_name, ordinal_position, data_type, is_nullable, column_default, is_identity
       FROM information_schema.columns WHERE table_schema = $1 ORDER BY 1, 3""",
    """SELECT indexname, replace(indexdef, $1, 'same') FROM pg_catalog.pg_indexes WHERE schemaname = $1 ORDER BY 1""",
    """SELECT c.relname, c.relkind::text, c.reloptions FROM pg_catalog.pg_class AS c
       WHERE c.relnamespace = $1::text::regnamespace ORDER BY 1""",
    """SELECT c.relname, a.attname, a.attoptions FROM pg_catalog.pg_class AS c
       JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
       WHERE c.relnamespace = $1::text::regnamespace AND a.attoptions IS NOT NULL ORDER BY 1, 2""",
    """SELECT conname, contype::text, pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint
       WHERE connamespace = $1::text::regnamespace ORDER BY 1""",
)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    yield from shop_in(tmp_path, monkeypatch)


def printed(shop: Shop, url: str, *options: str) -> str:
    answer = shop("--url", url, "db", "sql", *options)
    assert (answer.code, answer.err) == (0, ""), answer
    return answer.out


def schema_of(url: str) -> str:
    return url.rpartition("=")[2]


def tables_in(url: str) -> list[list[tuple[Any, ...]]]:
    """What the catalog says of the schema of a store on PostgreSQL."""

    async def work() -> list[list[tuple[Any, ...]]]:
        connection = await asyncpg.connect(dsn())
        try:
            return [[tuple(row) for row in await connection.fetch(query, schema_of(url))] for query in CATALOG]
        finally:
            await connection.close()

    found: list[list[tuple[Any, ...]]] = apart(work())
    return found


def tables_of_file(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name").fetchall()


def stands(url: str) -> tuple[int, tuple[str, ...]]:
    """The version of a store's tables, and what they lack."""
    found = asyncio.run(Durable(url).schema_status())
    assert found.version <= found.latest
    return found.latest - found.version, found.pending


@pytest.mark.slow
def test_on_postgres_it_makes_the_tables_that_an_upgrade_makes(shop: Shop) -> None:
    by_hand, by_upgrade = fresh_url(), fresh_url()
    execute(printed(shop, by_hand))
    assert shop("--url", by_upgrade, "db", "upgrade").code == 0

    made = tables_in(by_hand)
    assert (len(made[0]) > 30, len(made[1]) > 8) == (True, True)
    assert made == tables_in(by_upgrade)
    assert stands(by_hand) == (0, ())


def test_on_sqlite_it_makes_the_tables_that_an_upgrade_makes(shop: Shop) -> None:
    by_hand, by_upgrade = (shop.folder / name for name in ("hand.db", "upgrade.db"))
    with closing(sqlite3.connect(by_hand)) as database:
        database.executescript(printed(shop, f"sqlite:///{by_hand}"))
    assert shop("--url", f"sqlite:///{by_upgrade}", "db", "upgrade").code == 0

    assert len(tables_of_file(by_hand)) > 10
    assert tables_of_file(by_hand) == tables_of_file(by_upgrade)
    assert stands(f"sqlite:///{by_hand}") == (0, ())
    assert shop("--app", "shop:app", "--url", f"sqlite:///{by_hand}", "run", "order").code == 0


@pytest.mark.slow
def test_run_a_second_time_it_fails_and_changes_nothing(shop: Shop) -> None:
    url = fresh_url()
    execute(printed(shop, url))
    before = tables_in(url)
    with pytest.raises(asyncpg.exceptions.DuplicateTableError):
        execute(printed(shop, url))

    assert tables_in(url) == before
    assert stands(url) == (0, ())


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:1/nowhere?schema=shop", "sqlite:////no/folder/shop.db"])
def test_it_connects_to_nothing(shop: Shop, url: str) -> None:
    assert printed(shop, url).startswith("BEGIN;\n\n")
    assert printed(shop, url).endswith("\n\nCOMMIT;\n")


def test_tables_of_the_latest_version_lack_nothing(shop: Shop) -> None:
    latest = shop("--url", shop.url, "db", "upgrade", "--json").json["latest"]
    answer = shop("--url", shop.url, "db", "sql", "--from", str(latest))

    assert (answer.code, answer.out, answer.err) == (0, "", f"Nothing to do: version {latest} is the latest.\n")
    assert shop("--url", shop.url, "db", "sql", "--from", str(latest), "--json").json == []


def test_a_version_that_there_is_not_is_refused(shop: Shop) -> None:
    answer = shop("--url", shop.url, "db", "sql", "--from", "999")

    assert answer.code == 2
    assert answer.complaint.startswith("The version of the tables must be from 0 to ")


def test_for_machines_it_is_an_array_of_scripts(shop: Shop) -> None:
    scripts = shop("--url", shop.url, "db", "sql", "--json").json

    assert "CREATE TABLE stepwell_runs" in scripts[0]
    assert "INSERT INTO stepwell_schema" in scripts[1]


@pytest.mark.parametrize(
    ("module", "url"), [(postgres_schema, "postgresql:///?schema=shop"), (sqlite_schema, "sqlite:///shop.db")]
)
def test_from_a_version_only_what_comes_after_it_is_printed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, module: object, url: str
) -> None:
    monkeypatch.setattr(module, "_MIGRATIONS", (Migration(1, "0001_a", "ONE;"), Migration(2, "0002_b", "TWO;")))
    monkeypatch.setattr(PostgresStore, "latest", 2)
    lacking, everything = printed(shop, url, "--from", "1"), printed(shop, url)

    assert ("ONE;" in everything, "TWO;" in everything, "'0001_a'" in everything) == (True, True, True)
    assert ("ONE;" in lacking, "TWO;" in lacking, "'0002_b'" in lacking) == (False, True, True)
    assert "CREATE SCHEMA" not in lacking
