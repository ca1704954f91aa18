"""PostgreSQL alone: many that migrate at once, notifications, lost connections, a restart, a driver loaded late."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

import stepwell.store.postgres
from stepwell import DefinitionError, Durable, StoreUnavailableError, durable
from stepwell.runtime.system import SystemRuntime
from stepwell.store.migrate import queries_of
from stepwell.store.postgres.store import PostgresStore
from stepwell.store.records import Definition, Lane, NewRun
from tests.conformance.keeper import step
from tests.gates import Gate
from tests.postgres import Server, dsn, fresh_url
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from stepwell import Context

STORES = Path(__file__).parents[2] / "src" / "stepwell" / "store"
FINE_WITHOUT = {
    "next_ref": "runs are keyed by their ids",
    "add_ends": "part of tell_parent",
    "add_inputs": "part of add_runs",
    "has_lane": "part of add_runs",
    "is_enlisted": "part of claim",
    "numbers": "part of extend and change",
    "add_usual_rows": "part of extend and change",
    "finish": "part of append",
    "find_due": "part of claim",
    "find_suspects": "part of claim",
    "next_turn": "a sequence",
    "input_sizes": "part of claim",
    "find_message": "asked for one name at a time; find_messages for many",
    "journal_size": "as find_message, and journal_sizes",
    "lease": "part of claim",
    "leased": "part of claim",
    "leased_run": "part of claim",
    "next_due": "part of claim",
    "add_rows": "part of extend and change",
    "fences": "part of extend and change",
    "recount": "part of change",
    "take_message": "part of change",
    "find_signaled": "part of deliver_signal",
    "delete_silent_worker": "part of free_crashed",
}
"""Queries of SQLite's that PostgreSQL has no need of, and why."""
OF_ITS_OWN = {
    "claim": "one round trip instead of six",
    "lock_tree": "several may cancel at once",
    "deliver_signals": "one round trip for many runs",
    "find_messages": "one round trip for many runs",
    "find_result": "one round trip, where find_run and journal_of are two",
    "journal_sizes": "one round trip for many runs",
    "list_runs_by_id": "a page by its ids",
    "now": "the server's clock, not the caller's",
}


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of the test's own, durable, to be stopped and started at will."""
    server = Server(fsync=True)
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture
async def store() -> AsyncIterator[PostgresStore]:
    """An open store without runs."""
    store = PostgresStore(fresh_url(), SystemRuntime())
    await store.migrate()
    await store.open()
    yield store
    await store.close()


async def start_one(store: PostgresStore) -> str:
    """The id of a run that is due."""
    (lane,) = await store.define([Definition(Lane("durable", "order", "v1"), b"{}")])
    run_id = SystemRuntime().new_id()
    await store.start([NewRun(run_id, lane, "order", b"{}")])
    return run_id


def test_both_stores_have_the_same_queries_in_the_same_order() -> None:
    sqlite, postgres = (list(queries_of(STORES / name, {})) for name in ("sqlite", "postgres"))
    assert [name for name in sqlite if name not in FINE_WITHOUT] == [
        name for name in postgres if name not in OF_ITS_OWN
    ]


def test_importing_stepwell_loads_no_driver_of_a_server() -> None:
    code = "import sys, stepwell; stepwell.Durable('sqlite://'); print('asyncpg' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_without_its_driver_a_store_on_a_server_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("stepwell.store.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    # the import that fails leaves a new package on its parent, without the modules that other tests reach through it
    monkeypatch.setattr(stepwell.store, "postgres", stepwell.store.postgres)
    with pytest.raises(DefinitionError, match=re.escape("pip install stepwell[postgres]")):
        Durable("postgresql://localhost/shop")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_a_password_is_never_shown(scheme: str) -> None:
    app = Durable(f"{scheme}://ann:secret@localhost/shop?schema=mine")
    assert "secret" not in repr(app)


@pytest.mark.parametrize("schema", ["", "Mine", "my-schema", 'a"b', "x" * 64])
def test_a_schema_that_is_no_plain_name_is_refused(schema: str) -> None:
    with pytest.raises(DefinitionError, match="schema"):
        Durable(f"postgresql://localhost/shop?schema={schema}")


async def test_a_server_that_is_not_there_is_unavailable_and_its_password_not_shown() -> None:
    with pytest.raises(StoreUnavailableError) as raised:
        await Durable("postgresql://ann:secret@127.0.0.1:1/shop").__aenter__()
    assert "secret" not in str(raised.value)


async def test_ten_that_migrate_at_once_make_the_tables_once() -> None:
    url = fresh_url()
    stores = [PostgresStore(url, SystemRuntime()) for _ in range(10)]
    await asyncio.gather(*(store.migrate() for store in stores))
    assert await stores[0].schema() == (stores[0].latest, ())


async def test_two_schemas_of_one_database_know_nothing_of_each_other(store: PostgresStore) -> None:
    run_id = await start_one(store)
    other = PostgresStore(fresh_url(), SystemRuntime())
    await other.migrate()
    await other.open()
    try:
        assert await other.reader.snapshot(run_id) is None
    finally:
        await other.close()


async def test_what_another_process_writes_is_noticed_and_what_we_write_is_not(store: PostgresStore) -> None:
    other = PostgresStore(store.url, SystemRuntime())
    await other.open()
    try:
        await store.reader.changed()
        await eventually(lambda: store._notifier._hears)
        await start_one(store)
        assert not await store.reader.changed()
        noticing = asyncio.create_task(store.reader.changed())
        await start_one(other)
        assert await noticing
    finally:
        await other.close()


async def test_connections_that_the_server_ended_are_made_anew_unnoticed(store: PostgresStore) -> None:
    run_id = await start_one(store)
    heartbeat_connection = await store.enlist("ann", "here")
    assert heartbeat_connection.beat() == {}
    connection = await asyncpg.connect(dsn())
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'stepwell'"
    await connection.execute(ended)
    assert await store.reader.journal(run_id) == []
    await connection.execute(ended)
    assert await start_one(store) != run_id
    await connection.close()
    assert heartbeat_connection.beat() == {}
    heartbeat_connection.close()


async def test_a_run_locked_by_somebody_is_busy_and_stops_nobody_else(store: PostgresStore) -> None:
    run_ids = [await start_one(store), await start_one(store)]
    heartbeat_connection = await store.enlist("ann", "here")
    (lane,) = await store.define([Definition(Lane("durable", "order", "v1"), b"{}")])
    held, free = (await store.claim("ann", [lane], 10, 1)).leases
    assert [held.run_id, free.run_id] == run_ids
    connection = await asyncpg.connect(dsn())
    schema = store.url.rpartition("=")[2]
    async with connection.transaction():
        await connection.execute(f'UPDATE "{schema}".runs SET messages = messages + 1 WHERE id = $1', held.run_id)
        for lean in (True, False):
            assert await store.commit("ann", [step(held, lean=lean)]) == ["busy"]
        assert await store.commit("ann", [step(held, lean=True), step(free, lean=True)]) == ["busy", "ok"]
        assert await store.expire("ann", None) == 1
    await connection.close()
    assert await store.commit("ann", [step(held)]) == ["ok"]
    (ghost,) = await store.workers()
    assert (ghost.worker_id, ghost.dead) == ("ann", True)
    assert await store.expire("ann", None) == 1
    assert await store.workers() == []
    assert await store.commit("ann", [step(held)]) == ["lost"]
    heartbeat_connection.close()


async def test_runs_go_on_by_themselves_after_the_server_was_restarted(server: Server) -> None:
    made: list[int] = []

    async def first(ctx: Context) -> int:
        made.append(1)
        return 1

    gate = Gate(2)
    flow = durable("flow").step("first", first).step("second", gate.handler).sleep("nap", 0.01)
    async with Durable(f"{server.dsn}?schema=restart", [flow], lease=60) as app, app.worker():
        started = await app.start_many(flow, [None] * 20)
        await eventually(lambda: len(made) == 20)
        await asyncio.to_thread(server.stop, signal.SIGQUIT)
        gate.let()
        await asyncio.to_thread(server.start)
        for one in started:
            results: dict[str, Any] = await app.result(one.run_id, timeout=60)
            assert results == {"first": 1, "second": 2, "nap": None}
    assert len(made) == 20
