"""Whatever has become of a store, no exception of a driver reaches a user: each public call, each circumstance."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import sqlite3
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from stepwell import Durable, DurableError, durable
from stepwell.runtime.system import SystemRuntime
from stepwell.runtime.tuning import Tuning
from tests.postgres import Server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

TABLES = ("definitions", "runs", "inputs", "journal", "mailbox", "workers", "versions")
KEY = "名前"


def flow() -> Any:
    """A run that waits for a signal."""
    return durable("flow").step("one", lambda ctx: 1).wait_for_signal("word", "word")


async def enter(app: Durable) -> None:
    """Enters another app on the same store."""
    async with Durable(app.url, [flow()], runtime=impatient()):
        pass


async def work(app: Durable) -> None:
    """Enters a worker and leaves it."""
    async with app.worker(grace=0):
        pass


CALLS: dict[str, Callable[[Durable, str], Awaitable[Any]]] = {
    "start": lambda app, _: app.start("flow"),
    "start with a key": lambda app, _: app.start("flow", key=KEY),
    "start in another lane": lambda app, _: app.start("other"),
    "start_many": lambda app, _: app.start_many("flow", [1, 2], keys=["a", KEY]),
    "resume": lambda app, run_id: app.resume(run_id, "word"),
    "signal": lambda app, run_id: app.signal(run_id, "word"),
    "signal with a key": lambda app, run_id: app.signal(run_id, KEY, key=KEY),
    "expected_signals": lambda app, run_id: app.expected_signals(run_id),
    "status": lambda app, run_id: app.status(run_id),
    "list": lambda app, _: app.list(),
    "list by status": lambda app, _: app.list(status="running"),
    "list by workflow": lambda app, _: app.list(workflow=KEY),
    "list by key": lambda app, _: app.list(key=KEY),
    "list by parent": lambda app, run_id: app.list(parent_run_id=run_id),
    "list by all": lambda app, run_id: app.list(status="failed", workflow="flow", key=KEY, before=run_id, limit=2**80),
    "journal": lambda app, run_id: app.journal(run_id),
    "recover": lambda app, _: app.recover(),
    "result": lambda app, run_id: app.result(run_id, timeout=0.01),
    "worker": lambda app, _: work(app),
    "ensure_tables": lambda app, _: app.ensure_tables(),
    "schema_status": lambda app, _: app.schema_status(),
    "entering": lambda app, _: enter(app),
    "cancel": lambda app, run_id: app.cancel(run_id),
}


async def errors_of(app: Durable, run_id: str) -> dict[str, str]:
    """What each call raised that is none of stepwell's errors."""
    foreign: dict[str, str] = {}
    for name, call in CALLS.items():
        try:
            await asyncio.wait_for(call(app, run_id), 20)
        except DurableError:
            pass
        except TimeoutError as error:
            if name != "result":
                foreign[name] = repr(error)
        except Exception as error:  # noqa: BLE001  any other is what this looks for
            foreign[name] = f"{type(error).__module__}.{error!r}"
    return foreign


async def spoilt(url: str, spoil: Callable[[], Awaitable[None]]) -> dict[str, str]:
    """The foreign errors of all calls on a store that is spoilt once there is a run in it."""
    async with AsyncExitStack() as stack:
        other = durable("other").step("one", lambda ctx: 1)
        app = Durable(url, [flow(), other], runtime=impatient())
        await stack.enter_async_context(app)
        run_id = (await app.start("flow")).run_id
        await spoil()
        return await errors_of(app, run_id)


_RAISES = (
    "CREATE FUNCTION {schema}.refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$BEGIN RAISE EXCEPTION 'refused here' USING ERRCODE = '{code}'; END$$"
)


def raising(code: str) -> list[str]:
    """Statements that have every write refused with that code."""
    triggers = [f"CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON {{schema}}.{table}" for table in TABLES]
    each = [f"{trigger} FOR EACH ROW EXECUTE FUNCTION {{schema}}.refuse()" for trigger in triggers]
    return [_RAISES.replace("{code}", code), *each]


SPOILT_ON_A_SERVER: dict[str, list[str]] = {
    "tables dropped": [f"DROP TABLE {{schema}}.{table} CASCADE" for table in TABLES],
    "schema dropped": ["DROP SCHEMA {schema} CASCADE"],
    "tables emptied": [f"TRUNCATE {{schema}}.{table}" for table in TABLES],
    "column missing": ["ALTER TABLE {schema}.runs DROP COLUMN status", "ALTER TABLE {schema}.workers DROP COLUMN pid"],
    "column of another type": ["ALTER TABLE {schema}.runs ALTER COLUMN key TYPE bytea USING key::bytea"],
    "no rights": [f"REVOKE ALL ON {{schema}}.{table} FROM {{role}}" for table in TABLES],
    "no right to the schema": ["REVOKE ALL ON SCHEMA {schema} FROM {role}"],
    "read only": [
        "ALTER ROLE {role} SET default_transaction_read_only = on",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'",
    ],
    "may not log in": [
        "ALTER ROLE {role} NOLOGIN",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'",
    ],
    "disk full": raising("53100"),
    "out of memory": raising("53200"),
    "value too large": raising("54000"),
    "constraint": raising("23514"),
    "data": raising("22000"),
    "raised": raising("P0001"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server to be spoilt."""
    server = Server(fsync=False)
    try:
        yield server
    finally:
        server.remove()


def impatient() -> SystemRuntime:
    """A runtime that does not wait long for a server that is gone."""
    return SystemRuntime(Tuning(connect_seconds=2, answer_seconds=2))


async def execute(dsn: str, *statements: str) -> None:
    """Runs statements one by one."""
    admin = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await admin.execute(statement)
    finally:
        await admin.close()


@pytest.mark.parametrize("spoiling", SPOILT_ON_A_SERVER)
async def test_no_call_on_a_spoilt_server_raises_an_error_of_the_driver(server: Server, spoiling: str) -> None:
    role = schema = f"s_{secrets.token_hex(4)}"
    url = f"{server.dsn.replace('postgres@', f'{role}@')}?schema={schema}"
    await execute(server.dsn, f"CREATE ROLE {role} LOGIN", f"GRANT CREATE ON DATABASE postgres TO {role}")

    async def spoil() -> None:
        await execute(server.dsn, *(one.format(schema=schema, role=role) for one in SPOILT_ON_A_SERVER[spoiling]))

    assert await spoilt(url, spoil) == {}


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP", "WIN1252"])
async def test_no_call_on_a_database_of_another_encoding_raises_an_error_of_the_driver(
    server: Server, encoding: str
) -> None:
    name = f"db_{secrets.token_hex(4)}"
    await execute(
        server.dsn, f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    url = f"{server.dsn.rpartition('/')[0]}/{name}"

    async def nothing() -> None:
        pass

    assert await spoilt(url, nothing) == {}
    async with Durable(url, [flow()], runtime=impatient()) as app:
        for key in (KEY, "é", "\N{SNOWMAN}", "~"):  # what is taken comes back as it was
            with contextlib.suppress(DurableError):
                started = await app.start("flow", {"": key}, key=key)
                assert [(one.run_id, one.key) for one in await app.list(key=key)] == [(started.run_id, key)]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "killed"])
async def test_no_call_on_a_server_that_is_gone_raises_an_error_of_the_driver(how: signal.Signals) -> None:
    server = Server(fsync=False)

    async def stop() -> None:
        await asyncio.to_thread(server.stop, how)

    try:
        assert await spoilt(server.dsn, stop) == {}
    finally:
        server.remove()


@pytest.mark.parametrize(
    "place", ["postgres@{host}/nowhere", "nobody@{host}/postgres", "postgres@{host}/postgres?sslmode=require"]
)
async def test_a_database_that_cannot_be_entered_is_no_error_of_the_driver(server: Server, place: str) -> None:
    url = f"postgresql://{place.format(host=f'127.0.0.1:{server.port}')}"
    app = Durable(url, runtime=impatient())
    for call in (lambda: Durable(url, runtime=impatient()).__aenter__(), app.ensure_tables, app.schema_status):
        with pytest.raises(DurableError):
            await call()


SPOILT_IN_A_FILE: dict[str, list[str]] = {
    "tables dropped": [f"DROP TABLE stepwell_{table}" for table in TABLES[:-1]],
    "tables emptied": [f"DELETE FROM stepwell_{table}" for table in TABLES[:-1]],
    "column missing": ["ALTER TABLE stepwell_runs RENAME COLUMN status TO other"],
    "refused": [
        f"CREATE TRIGGER no_{verb}_{table} BEFORE {verb} ON stepwell_{table} BEGIN SELECT RAISE(ABORT, 'refused'); END"
        for table in TABLES[:-1]
        for verb in ("INSERT", "UPDATE", "DELETE")
    ],
}


@pytest.mark.parametrize("spoiling", [*SPOILT_IN_A_FILE, "overwritten", "cut off"])
async def test_no_call_on_a_spoilt_file_raises_an_error_of_the_driver(tmp_path: Path, spoiling: str) -> None:
    file = tmp_path / "shop.db"

    async def spoil() -> None:
        if spoiling in SPOILT_IN_A_FILE:
            with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
                for statement in SPOILT_IN_A_FILE[spoiling]:
                    other.execute(statement)
            return
        with contextlib.closing(sqlite3.connect(file)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = file.stat().st_size
        with file.open("r+b") as whole:
            if spoiling == "overwritten":
                whole.seek(4096)
                whole.write(b"\xff" * (size - 4096))
            else:
                whole.truncate(size // 2)

    assert await spoilt(f"sqlite:///{file}", spoil) == {}


async def test_calls_on_a_file_that_was_emptied_under_an_app_are_answered_each_time(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    async with Durable(f"sqlite:///{file}", [flow()]) as app:
        await app.start("flow")
        with contextlib.closing(sqlite3.connect(file)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with file.open("r+b") as whole:
            whole.truncate(0)
        for number in range(3):
            with pytest.raises(DurableError):
                await asyncio.wait_for(app.start("flow", key=f"{number}"), 20)
