"""Workers and clients while the server restarts, ends their backends, is full, or is away for longer than a lease."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from stepwell import Durable, StoreUnavailableError, durable
from stepwell.runtime.system import SystemRuntime
from stepwell.runtime.tuning import Tuning
from tests.faulty import faulty_app
from tests.network_faults import (
    CountedCalls,
    check,
    cross,
    ended,
    fetch,
    fresh_schema,
    own_server,
    owners,
)
from tests.postgres import Server
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


RUNS = 40
LEASE = 1.0
LONG = 600.0
"""Seconds that nobody here waits for."""
BEATS_UNTIL_JUDGED = 5
"""More than a whole lease, where half of one makes a failure detector fit."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A server to be stopped at will; it runs again afterwards."""
    server = own_server()
    yield server
    server.start()


async def test_i1_a_server_restarted_under_clients_and_a_worker_costs_no_run_and_no_second_call(server: Server) -> None:
    counted, url = CountedCalls(), fresh_schema(server.dsn)
    async with Durable(url, counted.workflows(), lease=2) as app, app.worker() as worker:
        worker_id = worker.worker_id
        clients = [asyncio.create_task(cross(app, f"run {number}")) for number in range(RUNS)]
        for step in ("first", "last"):
            await counted.reached(RUNS // 4, step)
            await asyncio.to_thread(server.restart, signal.SIGQUIT)
        run_ids = await asyncio.gather(*clients)
        await check(app, url, counted, run_ids)
        assert counted.repeated() == {}
        assert len(set(run_ids)) == RUNS == len(await app.list())
        assert worker.worker_id == worker_id
    words = await fetch(url, "SELECT count(*), count(DISTINCT run_id) FROM mailbox WHERE name = 'word'")
    assert tuple(words[0]) == (RUNS, RUNS)


async def test_i7_calls_while_the_server_is_away_say_so_and_have_done_nothing(server: Server) -> None:
    counted, url = CountedCalls(), fresh_schema(server.dsn)
    async with Durable(url, counted.workflows()) as app:
        waits = (await app.start("counted")).run_id
        async with app.worker():
            await eventually(lambda: _is_awaiting(app, waits))
        before = [await app.status(waits), await app.journal(waits)]
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: app.start("counted"),
            lambda: app.start_many("counted", [1, 2]),
            lambda: app.signal(waits, "word", 1),
            lambda: app.resume(waits, "word", 1),
            lambda: app.cancel(waits),
            app.recover,
            lambda: app.status(waits),
            lambda: app.journal(waits),
            app.list,
            lambda: app.result(waits),
        ]
        await asyncio.to_thread(server.stop, signal.SIGQUIT)
        for call in calls:
            with pytest.raises(StoreUnavailableError):
                await call()
        await asyncio.to_thread(server.start)
        assert [await app.status(waits), await app.journal(waits)] == before
        assert [run.run_id for run in await app.list()] == [waits]
        assert await fetch(url, "SELECT * FROM mailbox") == []


async def _is_awaiting(app: Durable, run_id: str) -> bool:
    return (await app.status(run_id)).awaiting_signal is not None


async def test_who_waits_for_a_result_waits_through_a_restart(server: Server) -> None:
    counted, url = CountedCalls(), fresh_schema(server.dsn)
    other, faulty = faulty_app(url, counted.workflows())
    async with Durable(url, counted.workflows()) as app, other:
        run_id = (await app.start("held")).run_id
        async with app.worker():
            await eventually(lambda: counted.called("work"))
            waiting = asyncio.create_task(other.result(run_id, timeout=PATIENCE))
            await eventually(lambda: faulty.answers_of("ended"))
            await asyncio.to_thread(server.stop, signal.SIGQUIT)
            counted.release.set()
            await asyncio.to_thread(server.start)
            assert (await waiting).keys() == {"first", "work", "last"}


async def test_backends_terminated_at_random_cost_no_run_and_no_second_call(server: Server) -> None:
    counted, url = CountedCalls(), fresh_schema(server.dsn)
    chance = random.Random(7)
    async with Durable(url, counted.workflows(), lease=2) as app, app.worker() as worker:
        worker_id = worker.worker_id
        clients = [asyncio.create_task(cross(app, f"run {number}")) for number in range(RUNS)]
        for calls in range(4, 2 * RUNS, 4):
            await counted.reached(calls)
            backends = "SELECT pid FROM pg_stat_activity WHERE application_name = 'stepwell'"
            pids = [pid for (pid,) in await fetch(url, backends)]
            doomed = chance.sample(pids, min(len(pids), 2))
            await fetch(url, "SELECT pg_terminate_backend(pid) FROM unnest($1::integer[]) AS pid", doomed)
        await check(app, url, counted, await asyncio.gather(*clients))
        assert counted.repeated() == {}
        assert worker.worker_id == worker_id


async def test_i4_after_an_outage_of_several_leases_every_run_is_still_its_workers(server: Server) -> None:
    """Whoever comes back first finds all others silent for longer than the lease, and must expire none of them."""
    counted, url = CountedCalls(), fresh_schema(server.dsn)
    async with AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(_with_queue(url, counted, f"queue-{at}")) for at in range(3)]
        started = [one for app in apps for one in await app.start_many("held", range(5))]
        workers = [await stack.enter_async_context(app.worker()) for app in apps]
        await eventually(lambda: counted.called("work") == 15)
        before, ids = await owners(url), [worker.worker_id for worker in workers]
        await asyncio.to_thread(server.stop, signal.SIGQUIT)
        await asyncio.sleep(4 * LEASE)  # the outage itself: it has to outlast the lease, and is not waited for
        await asyncio.to_thread(server.start)
        beats: dict[str, set[int]] = {}
        await eventually(lambda: _have_judged(url, beats))
        assert await owners(url) == before
        assert {crashes for _, _, crashes in before.values()} == {0}
        counted.release.set()
        run_ids = [one.run_id for one in started]
        await ended(apps[0], run_ids)
        await check(apps[0], url, counted, run_ids)
        assert counted.repeated() == {}
        assert [worker.worker_id for worker in workers] == ids


def _with_queue(url: str, counted: CountedCalls, queue: str) -> Durable:
    return Durable(url, counted.workflows(), lease=LEASE, queue=queue)


async def _have_judged(url: str, beats: dict[str, set[int]]) -> bool:
    """Whether all three were seen to beat so often since the outage that each had the time to judge the others."""
    for worker_id, beat in await fetch(url, "SELECT id::text, beat_at FROM workers"):
        beats.setdefault(worker_id, set()).add(beat)
    return len(beats) >= 3 and all(len(seen) > BEATS_UNTIL_JUDGED for seen in beats.values())


async def test_a_server_that_others_have_filled_is_unavailable_and_then_all_goes_on() -> None:
    counted = CountedCalls()
    with Server(fsync=False, settings={"max_connections": "20"}) as server:
        url = fresh_schema(server.dsn)
        async with Durable(url, counted.workflows(), lease=2) as app, app.worker() as worker:
            worker_id = worker.worker_id
            held = [one.run_id for one in await app.start_many("held", range(5))]
            await eventually(lambda: counted.called("work") == 5)
            others = await _everything_there_is(server)
            counted.release.set()
            with pytest.raises(StoreUnavailableError, match="too many clients"):
                await Durable(url, counted.workflows()).ensure_tables()
            clients = [asyncio.create_task(cross(app, f"run {number}")) for number in range(5)]
            for other in others:
                await other.close()
            crossed = await asyncio.gather(*clients)
            await ended(app, held)
            await check(app, url, counted, [*held, *crossed])
            assert counted.repeated() == {}
            assert worker.worker_id == worker_id


async def _everything_there_is(server: Server) -> list[Any]:
    """All the connections that the server allows; those of stepwell are ended until none of them is left."""
    others: list[Any] = [await asyncpg.connect(server.dsn)]
    allowed = int(await others[0].fetchval("SHOW max_connections"))
    while len(others) < allowed:
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'stepwell'"
        await others[0].execute(ended)
        with suppress(asyncpg.TooManyConnectionsError):
            others.append(await asyncpg.connect(server.dsn))
    return others


async def test_i4_a_due_run_that_was_locked_when_it_was_looked_for_is_looked_for_again(server: Server) -> None:
    """Whoever locks a run, as a signal does, tells nobody when it is free again; and nobody looks unasked."""
    runtime = SystemRuntime(Tuning(longest_wait_seconds=LONG, trust_seconds=LONG))
    counted, url = CountedCalls(), fresh_schema(server.dsn)
    counted.release.set()
    async with Durable(url, counted.workflows(), runtime=runtime) as app, app.worker():
        await app.result((await app.start("held")).run_id, timeout=PATIENCE)
        run_id = (await app.start("held", delay=1)).run_id
        connection = await asyncpg.connect(server.dsn)
        async with connection.transaction():
            schema = url.rpartition("=")[2]
            await connection.execute(f'SELECT FROM "{schema}".runs WHERE id = $1 FOR NO KEY UPDATE', run_id)
            due = "SELECT FROM runs WHERE id = $1 AND due_at < extract(epoch FROM clock_timestamp()) * 1000000 - 100000"
            await eventually(lambda: fetch(url, due, run_id))
        await connection.close()
        await app.result(run_id, timeout=PATIENCE)


async def test_a_store_that_goes_away_while_a_run_reads_its_mail_is_waited_for(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """As everywhere else: nothing stops, is given back, or is called an error."""
    app, faulty = faulty_app(fresh_schema(server.dsn), [durable("waiting").wait_for_signal("word", "word")])
    async with app, app.worker():
        parking = faulty.stop_before("commit")
        run_id = (await app.start("waiting")).run_id
        await parking.reached()
        await app.signal(run_id, "word", 1)
        faulty.fail("load")
        faulty.fail("load")
        parking.release()
        assert await app.result(run_id, timeout=PATIENCE) == {"word": 1}
    assert len(faulty.claims_of(run_id)) == 1
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
