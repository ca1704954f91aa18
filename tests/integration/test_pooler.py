"""PostgreSQL behind a pooler in transaction mode: a stand-in for pgbouncer, and the real one where it is installed."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from stepwell import Durable, RunCanceledError, StoreUnavailableError
from stepwell.runtime.system import SystemRuntime
from tests.network_faults import CountedCalls, check, cross, fetch, fresh_schema, own_server
from tests.pooler import KINDS, pooler
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stepwell.store.postgres import notifier

RUNS = 20
LONG = 600.0
"""Seconds that nobody here waits for."""


@pytest.fixture(params=KINDS)
async def url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A store that nobody has used, by way of a pooler."""
    async with pooler(request.param, own_server().port) as port:
        yield fresh_schema(f"postgresql://postgres@127.0.0.1:{port}/postgres")


def past_the_pooler(url: str) -> str:
    """The same store without the pooler, for the tests' own eyes."""
    return f"{own_server().dsn}?{url.partition('?')[2]}"


def notifier_of(app: Durable) -> notifier.Notifier:
    """What notifies and is notified."""
    found: notifier.Notifier = app._store._notifier  # type: ignore[attr-defined]  # it is the store on PostgreSQL
    return found


async def test_workers_and_clients_get_on_through_a_pooler(url: str) -> None:
    counted, pooled = CountedCalls(), f"{url}&pooled=true"
    async with AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(Durable(pooled, counted.workflows())) for _ in range(3)]
        for app in apps:
            await stack.enter_async_context(app.worker(concurrency=5))
        run_ids = await asyncio.gather(*(cross(apps[at % 3], f"run {at}") for at in range(RUNS)))
        await check(apps[0], past_the_pooler(url), counted, run_ids)
        assert counted.repeated() == {}
        held = (await apps[0].start("held")).run_id
        await counted.reached(1, "work")
        await apps[1].cancel(held)
        with pytest.raises(RunCanceledError):
            await apps[2].result(held, timeout=PATIENCE)
        assert len(await apps[0].list(status="completed")) == RUNS
        assert await apps[0].recover() == 0


async def test_without_a_way_to_listen_an_idle_worker_finds_what_others_start(url: str) -> None:
    counted, pooled = CountedCalls(), f"{url}&pooled=true"
    async with Durable(pooled, counted.workflows()) as app, Durable(pooled, counted.workflows()) as other:
        async with app.worker():
            await cross(other, "alone")
        listening = "SELECT FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND query LIKE '%' || $1 || '%'"
        assert await fetch(past_the_pooler(url), listening, url.rpartition("=")[2]) == []


async def test_with_the_servers_own_address_an_idle_worker_is_told_at_once(url: str) -> None:
    """Nobody looks unasked for ten minutes, so that only a notification can bring the news."""
    runtime = SystemRuntime()
    counted, listening = CountedCalls(), f"{url}&pooled=true&listen=127.0.0.1:{own_server().port}"
    async with (
        Durable(listening, counted.workflows(), runtime=runtime) as app,
        Durable(listening, counted.workflows(), runtime=runtime) as other,
        app.worker(),
    ):
        counted.release.set()
        await cross(app, "first")
        await other._store.reader.changed()
        await eventually(lambda: notifier_of(app)._hears and notifier_of(other)._hears)
        runtime.tuning = replace(runtime.tuning, trust_seconds=LONG, longest_wait_seconds=LONG)
        await app.result(
            (await app.start("held")).run_id, timeout=PATIENCE
        )  # whoever waits for less long waits no more
        await other.result((await other.start("held")).run_id, timeout=PATIENCE)


async def test_a_pooler_that_was_not_told_of_is_named_with_what_to_add(url: str) -> None:
    with pytest.raises(StoreUnavailableError, match="pooled=true") as raised:
        await Durable(url, CountedCalls().workflows()).__aenter__()
    assert "listen=" in str(raised.value)
    assert "\n" not in str(raised.value)
