"""How many connections an app has to a PostgreSQL, whatever locks, limits and options there are."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from stepwell import DefinitionError, Durable, StoreUnavailableError, durable
from stepwell.runtime.system import SystemRuntime
from stepwell.runtime.tuning import Tuning
from stepwell.store.postgres import opening
from stepwell.store.postgres.store import PostgresStore
from tests.network_faults import fresh_schema
from tests.postgres import Server, fresh_url
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 13
"""Calls that are given up: more than the store has connections, so that they pile up if anything does."""
OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'stepwell'"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server without other clients."""
    server = Server(fsync=False)
    try:
        yield server
    finally:
        server.remove()


def flow() -> Any:
    """Two quick steps."""
    return durable("flow").step("one", lambda ctx: 1).step("two", lambda ctx: 2)


async def limited(server: Server, limit: int) -> tuple[str, str]:
    """The URL of a store for a role with so many connections, and the role."""
    role = f"small_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(server.dsn)
    await admin.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT {limit}")
    await admin.execute(f"GRANT CREATE ON DATABASE postgres TO {role}")
    await admin.close()
    return fresh_schema(server.dsn.replace("postgres@", f"{role}@")), role


async def test_calls_that_are_given_up_under_a_lock_pile_up_no_connections(server: Server) -> None:
    """The backends of given-up calls wait on for the lock, until the server notices that nobody wants their answer."""
    impatient = Tuning(answer_seconds=0.3, long_answer_seconds=0.3, heartbeat_answer_seconds=0.3)
    url = fresh_schema(server.dsn)
    schema = url.rpartition("=")[2]
    admin = await asyncpg.connect(server.dsn)
    most = 0
    async with Durable(url, [flow()], runtime=SystemRuntime(impatient)) as app, app.worker(grace=1):
        await app.result((await app.start("flow")).run_id, timeout=PATIENCE)
        locking = await asyncpg.connect(server.dsn)
        async with locking.transaction():
            await locking.execute(f'LOCK TABLE "{schema}".runs IN ACCESS EXCLUSIVE MODE')
            clients = asyncio.gather(*(app.start("flow") for _ in range(MANY)), return_exceptions=True)
            while not clients.done():
                most = max(most, await admin.fetchval(OURS))
                await asyncio.wait({clients}, timeout=0.05)
        await locking.close()
        assert {type(refusal) for refusal in await clients} == {StoreUnavailableError}
        await app.result((await app.start("flow")).run_id, timeout=PATIENCE)
    await admin.close()
    assert most <= 10 + 1  # and a second one for a beat that was not answered


@pytest.mark.parametrize("limit", [2, 3, 5])
async def test_a_role_that_may_have_few_connections_works_with_those_and_is_told_once(
    server: Server, limit: int, caplog: pytest.LogCaptureFixture
) -> None:
    url, _ = await limited(server, limit)
    async with Durable(url, [flow()]) as app, app.worker():
        started = await asyncio.gather(*(app.start("flow", key=str(number)) for number in range(60)))
        ends = await asyncio.gather(*(app.result(one.run_id, timeout=PATIENCE) for one in started))
    assert ends == [{"one": 1, "two": 2}] * 60
    told = [record for record in caplog.records if "fewer connections" in record.getMessage()]
    assert len(told) <= 1
    assert len(told) == 1 or limit == 5
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_entering_waits_until_others_leave_a_connection(server: Server) -> None:
    url, role = await limited(server, 2)
    others = [await asyncpg.connect(server.dsn.replace("postgres@", f"{role}@")) for _ in range(2)]
    async with AsyncExitStack() as stack:
        entering = asyncio.create_task(stack.enter_async_context(Durable(url, [flow()])))
        admin = await asyncpg.connect(server.dsn)
        refused = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1"
        await eventually(lambda: admin.fetchval(f"{refused} HAVING count(*) = 2", role))
        await others[0].close()
        app = await entering
        async with app.worker():
            await others[1].close()
            await app.result((await app.start("flow")).run_id, timeout=PATIENCE)
        await admin.close()


async def test_more_connections_are_made_again_when_the_role_may_have_them(server: Server) -> None:
    runtime = SystemRuntime(Tuning(crowded_out_seconds=0.1))
    url, role = await limited(server, 2)
    admin = await asyncpg.connect(server.dsn)
    async with Durable(url, [flow()], runtime=runtime) as app:
        await asyncio.gather(*(app.start("flow") for _ in range(30)))
        mine = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'"
        assert await admin.fetchval(mine) <= 2
        await admin.execute(f"ALTER ROLE {role} CONNECTION LIMIT -1")

        async def has_more() -> bool:
            await asyncio.gather(*(app.start("flow") for _ in range(30)))
            return bool(await admin.fetchval(mine) > 2)

        await eventually(has_more)
    await admin.close()


@pytest.mark.parametrize("wanted", [2, 3, 6])
async def test_no_more_connections_are_made_than_the_url_says(server: Server, wanted: int) -> None:
    admin = await asyncpg.connect(server.dsn)
    await eventually(lambda: admin.fetchval(f"SELECT ({OURS}) = 0"))
    most = 0
    async with Durable(f"{fresh_schema(server.dsn)}&connections={wanted}", [flow()]) as app, app.worker():
        starting = asyncio.gather(*(app.start("flow") for _ in range(200)))
        while not starting.done():
            most = max(most, await admin.fetchval(OURS))
        for one in await starting:
            await app.result(one.run_id, timeout=PATIENCE)
            most = max(most, await admin.fetchval(OURS))
    await admin.close()
    assert 1 <= most <= wanted


@pytest.mark.parametrize(
    ("option", "name", "shown"),
    [
        ("application_name=shop", "application_name", "shop"),
        ("jit=on", "jit", "on"),
        ("statement_timeout=7s", "statement_timeout", "7s"),
        ("lock_timeout=3s", "lock_timeout", "3s"),
        ("options=-c%20enable_seqscan%3Don%20--jit=on", "enable_seqscan", "on"),
        ("options=-c%20enable_seqscan%3Don%20--jit=on", "jit", "on"),
        ("idle_in_transaction_session_timeout=1min", "idle_in_transaction_session_timeout", "1min"),
        ("connect_timeout=5", "jit", "off"),
    ],
)
async def test_what_a_url_sets_goes_before_what_stepwell_would_set(option: str, name: str, shown: str) -> None:
    store = PostgresStore(f"{fresh_url()}&{option}", SystemRuntime())
    await store.migrate()
    await store.open()
    try:
        assert [one for (one,) in await store._connections.fetch(f"SHOW {name}")] == [shown]
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("default_transaction_isolation=serializable", "Accepted: read committed"),
        ("options=-c%20default_transaction_isolation%3Dserializable", "Accepted: read committed"),
        ("options=-cdefault-transaction-read-only%3Don", "default_transaction_read_only"),
        ("client_encoding=LATIN1", "client_encoding"),
        ("target_session_attrs=standby", "target_session_attrs"),
        ("connections=1", "Accepted: 2 to 100"),
        ("connections=101", "Accepted: 2 to 100"),
        ("connections=many", "Accepted: 2 to 100"),
        ("connect_timeout=0", "connect_timeout"),
    ],
)
def test_what_stepwell_would_be_wrong_with_is_refused_by_name(option: str, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Durable(f"postgresql://localhost/shop?{option}")


async def test_a_backend_is_ended_by_its_timeout_where_the_server_cannot_see_that_its_client_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a system whose sockets do not tell; here a setting that no server knows stands for it."""
    monkeypatch.setattr(opening, "_CHECK", "client_connection_check_never")
    monkeypatch.setitem(opening.SETTINGS, "client_connection_check_never", "2s")
    monkeypatch.delitem(opening.SETTINGS, "client_connection_check_interval")
    store = PostgresStore(fresh_url(), SystemRuntime())
    await store.migrate()
    await store.open()
    try:
        assert [one for (one,) in await store._connections.fetch("SHOW statement_timeout")] == ["35s"]
        assert store._opener.linger_seconds > 35
    finally:
        await store.close()
