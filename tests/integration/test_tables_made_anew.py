"""Tables that are emptied, or dropped and made anew under a living app: what it starts can be read and ends."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

import asyncpg
import pytest

from stepwell import Durable, durable
from tests.postgres import dsn, fresh_url
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

TABLES = ("definitions", "runs", "inputs", "journal", "mailbox", "workers")


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Callable[[], Awaitable[None]]]:
    """The URL of a store, and what empties its tables."""
    file, url = tmp_path / "shop.db", fresh_url()

    async def empty_file() -> None:
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
            for table in TABLES:
                other.execute(f"DELETE FROM stepwell_{table}")

    async def empty_schema() -> None:
        schema = url.rpartition("=")[2]
        connection = await asyncpg.connect(dsn())
        await connection.execute("; ".join(f'TRUNCATE "{schema}".{table}' for table in TABLES))
        await connection.close()

    return (f"sqlite:///{file}", empty_file) if request.param == "sqlite" else (url, empty_schema)


def app_at(url: str) -> Durable:
    """An app of two workflows."""
    return Durable(url, [durable(name).step(name, lambda ctx: ctx.input) for name in ("first", "second")], lease=2)


async def test_what_is_started_after_the_tables_were_emptied_can_be_read_and_ends(
    place: tuple[str, Callable[[], Awaitable[None]]],
) -> None:
    url, empty = place
    async with app_at(url) as app, app.worker():
        await app.result((await app.start("first", 1)).run_id, timeout=PATIENCE)
        await empty()
        for name in ("second", "first"):
            run_id = (await app.start(name, name, key="again")).run_id
            assert (await app.status(run_id)).workflow_name == name
            assert await app.result(run_id, timeout=PATIENCE) == {name: name}


async def test_a_number_that_is_another_workflows_now_is_not_used(
    place: tuple[str, Callable[[], Awaitable[None]]],
) -> None:
    url, empty = place
    async with app_at(url) as app:
        await app.start("first")
        await empty()
        async with Durable(url, [durable("other").step("one", lambda ctx: 1)]) as other:
            await other.start("other")
        run_id = (await app.start("second")).run_id
        assert (await app.status(run_id)).workflow_name == "second"
        async with app.worker():
            assert await app.result(run_id, timeout=PATIENCE) == {"second": None}


async def test_a_schema_that_was_dropped_and_made_anew_is_worked_on() -> None:
    url = fresh_url()
    schema = url.rpartition("=")[2]
    async with app_at(url) as app, app.worker():
        await app.result((await app.start("first", 1)).run_id, timeout=PATIENCE)
        connection = await asyncpg.connect(dsn())
        await connection.execute(f'DROP SCHEMA "{schema}" CASCADE')
        await connection.close()
        await app.ensure_tables()
        async with Durable(url, [durable("other").step("one", lambda ctx: 1)]) as other:
            await other.start("other")  # takes the number that the app knows as another workflow's
        run_id = (await app.start("first", 2)).run_id
        assert await app.result(run_id, timeout=PATIENCE) == {"first": 2}
