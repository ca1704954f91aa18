"""Who looks at runs has a connection of its own: workers neither wait for it nor pay for it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from stepwell import Durable, StoreUnavailableError, durable
from stepwell.store.postgres.store import PostgresStore
from stepwell.store.sqlite.reader import SqliteReader
from stepwell.store.sqlite.store import SqliteStore
from tests.postgres import fresh_url
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path


def readers() -> int:
    """How many threads read a file."""
    return sum(thread.name == "stepwell-sqlite-reader" for thread in threading.enumerate())


@contextmanager
def a_long_look(app: Durable) -> Iterator[None]:
    """While entered, what looks at runs is busy."""
    begun, over = threading.Event(), threading.Event()

    def look(_connection: sqlite3.Connection) -> None:
        begun.set()
        over.wait(PATIENCE)

    reader = app._store.reader
    assert isinstance(reader, SqliteReader)
    busy = reader._looking.run(look)
    try:
        assert begun.wait(PATIENCE)
        yield
    finally:
        over.set()
        del busy


async def test_a_page_that_takes_long_holds_up_no_worker(tmp_path: Path) -> None:
    ended: list[str] = []

    async def last(ctx: object) -> None:
        ended.append("it")

    flow = durable("flow").step("one", lambda ctx: 1).sleep("short", 0.01).step("last", last)
    async with Durable(f"sqlite:///{tmp_path}/store.db", [flow]) as app, app.worker():
        await app.list()
        with a_long_look(app):
            await app.start("flow")
            await eventually(lambda: ended)


async def test_an_app_that_looks_at_no_run_has_no_thread_for_it(tmp_path: Path) -> None:
    async with Durable(f"sqlite:///{tmp_path}/store.db", [durable("flow").step("one", lambda ctx: 1)]) as app:
        before = readers()
        await app.start("flow")
        assert readers() == before
        await app.list()
        assert readers() == before + 1


async def test_a_look_that_begins_while_its_store_is_closed_opens_nothing(tmp_path: Path) -> None:
    """As of a call that was under way: its first query may have been answered before the app was left."""
    over = threading.Event()
    before = readers()
    app = Durable(f"sqlite:///{tmp_path}/store.db", [durable("flow").step("one", lambda ctx: 1)])
    await app.__aenter__()
    store = app._store
    assert isinstance(store, SqliteStore)
    loading = asyncio.ensure_future(store._reading.run(lambda _connection: over.wait(PATIENCE)))
    closing = asyncio.ensure_future(store.close())
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailableError):
        await store.reader.lane("any")
    over.set()
    await asyncio.wait({loading, closing})
    await eventually(lambda: readers() == before)


async def test_those_who_look_leave_most_connections_to_the_workers_of_a_server() -> None:
    many = 20
    over = asyncio.Event()
    looking: list[object] = []

    async def look(connection: object) -> None:
        looking.append(connection)
        await over.wait()

    async with Durable(fresh_url(), [durable("flow").step("one", lambda ctx: 1)]) as app:
        store = app._store
        assert isinstance(store, PostgresStore)
        async with asyncio.TaskGroup() as group:
            for _ in range(many):
                group.create_task(store._connections.look(look))
            await eventually(lambda: looking)
            async with app.worker():
                started = await app.start("flow")
                await eventually(lambda: store.reader.ended([started.run_id]))
            assert len(looking) == 2
            over.set()
        assert len(looking) == many
