"""Workers on PostgreSQL whose clock steps, who are buried with a batch in their socket, whose batch cannot be kept."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Context, Durable, RunFailedError, durable
from stepwell.runtime.system import SystemRuntime
from stepwell.store.postgres.location import location_of
from stepwell.store.postgres.sql import NOW
from tests.api.handlers import nothing
from tests.faulty import FaultyStore, faulty_app
from tests.gates import Gate, StubbornGate
from tests.postgres import dsn, fresh_url
from tests.proxy import Proxy
from tests.rival import Rival, rival_of, statements
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MANY = 256
FLEET = 3
LOOKS = 2
"""How often each worker looks after the others before a test says that nobody was buried: once for certain anew."""


class SteppedRuntime(SystemRuntime):
    """A runtime whose stores' instant is the server's, and as many microseconds as a table says."""

    sql_now = f"({NOW} + (SELECT micros FROM stepwell.stepped))"


@contextlib.asynccontextmanager
async def stepped_rival(url: str) -> AsyncIterator[Rival]:
    """A rival on an empty store whose clock can be stepped."""
    async with rival_of(url) as rival:
        await rival.execute(f"CREATE SCHEMA {location_of(url).schema}")
        await rival.execute("CREATE TABLE stepwell.stepped (micros bigint NOT NULL)")
        await rival.execute("INSERT INTO stepwell.stepped VALUES (0)")
        yield rival


@pytest.mark.parametrize("seconds", [60, -60])
async def test_i4_no_run_changes_hands_when_the_servers_clock_steps_in_an_outage(seconds: int) -> None:
    """By that clock all workers were silent for a minute; but each has seen the others beat just now."""
    url, gate = fresh_url(), Gate()
    flow = durable("flow").step("work", gate.handler).step("last", nothing)
    async with Proxy(dsn()) as proxy, stepped_rival(url) as rival, contextlib.AsyncExitStack() as stack:
        fleet: list[tuple[Durable, FaultyStore]] = []
        for queue in map(str, range(FLEET)):
            app, faulty = faulty_app(proxy.url(url), [flow], queue=queue, runtime=SteppedRuntime())
            fleet.append((app, faulty))
            await stack.enter_async_context(app)
            await stack.enter_async_context(app.worker())
        started = [one.run_id for app, _ in fleet for one in await app.start_many("flow", [1, 2])]
        await gate.entered(len(started))
        before = await rival.owners()
        proxy.refuse()
        proxy.cut()
        await rival.execute("UPDATE stepwell.stepped SET micros = $1", seconds * 1_000_000)
        proxy.heal()
        seen = [looks_of(faulty) for _, faulty in fleet]

        def have_all_looked() -> bool:
            return all(looks_of(faulty) >= before + LOOKS for (_, faulty), before in zip(fleet, seen, strict=True))

        await eventually(have_all_looked)
        assert await rival.owners() == before
        gate.let()
        for run_id in started:
            await fleet[0][0].result(run_id, timeout=PATIENCE)
        assert [crashes for _, _, crashes in await rival.owners()] == [0] * len(started)
    assert set(gate.calls.values()) == {1}


def looks_of(faulty: FaultyStore) -> int:
    """How often its worker has looked after the others."""
    return sum(verb == "workers" for verb, _, _ in faulty.answers)


async def test_i3_what_a_worker_that_was_declared_dead_has_in_its_socket_and_in_hand_is_not_written() -> None:
    """It goes on under a new id, and claims the same run again while the handler of before is still at work."""
    url, slow, quick = fresh_url(), StubbornGate(), Gate()
    flows = [
        durable("slow").step("work", slow.handler),
        durable("quick").step("first", quick.handler).step("last", nothing),
        durable("names").step("first", nothing).step("last", nothing),
    ]
    async with (
        Proxy(dsn()) as proxy,
        Durable(proxy.url(url), flows, lease=1) as app,
        Durable(url) as other,
        app.worker() as worker,
    ):
        # The first commit that has the name of a node is made twice: the names are given their numbers in between.
        await app.result((await app.start("names")).run_id, timeout=PATIENCE)
        long = await app.start("slow")
        await slow.entered()
        sent = proxy.hold(statements(url)["append"])
        short = await app.start("quick")
        await quick.entered()
        quick.let(1)
        await sent.reached()
        old_id = worker.worker_id
        assert await other._store.expire(old_id, None) == 2
        await slow.entered(2)
        await quick.entered(2)
        assert worker.worker_id != old_id
        await sent.released()
        assert b"ok" not in sent.answer
        quick.let()
        slow.let(1)
        await eventually(lambda: slow.ended == [1])
        await app.result(short.run_id, timeout=PATIENCE)
        assert await app.journal(long.run_id) == []
        slow.let(2)
        assert await app.result(long.run_id, timeout=PATIENCE) == {"work": 2}
        (entry,) = await app.journal(long.run_id)
    assert (entry.attempt, entry.worker) == (1, worker.worker_id)


async def test_i1_outcomes_that_cannot_be_kept_fail_alone_in_a_full_batch(caplog: pytest.LogCaptureFixture) -> None:
    """An error text that is no text, a result of 20 MB, and a row that stands in the journal already."""
    url = fresh_url()

    def outcome(ctx: Context) -> Any:
        if ctx.input == "text":
            raise ValueError("nul \0 and surrogate \udc80")
        return "x" * 20_000_000 if ctx.input == "large" else ctx.input

    gate = Gate(outcome)
    inputs = [*range(MANY - 3), "text", "large", "by hand"]
    flow = durable("flow").step("first", nothing).step("work", gate.handler, max_retries=0).step("last", nothing)
    async with Durable(url, [flow]) as app, rival_of(url) as rival, app.worker(concurrency=MANY):
        *good, text, large, doubled = [each.run_id for each in await app.start_many("flow", inputs)]
        await gate.entered(MANY)
        await rival.execute("INSERT INTO stepwell.names (name) VALUES ('work') ON CONFLICT DO NOTHING")
        await rival.execute(
            "INSERT INTO stepwell.journal (run_id, seq, node, value, started_at, finished_at, worker)"
            " SELECT $1, 2, number, $2, 0, 0, number FROM stepwell.names WHERE name = 'work'",
            doubled,
            b'"somebody\'s"',
        )
        gate.let()
        for at, run_id in enumerate(good):
            assert (await app.result(run_id, timeout=PATIENCE))["work"] == at
        failures = []
        for run_id in (text, large):
            with pytest.raises(RunFailedError) as caught:
                await app.result(run_id, timeout=PATIENCE)
            failures.append((caught.value.error.node, caught.value.error.type))
        assert failures == [("work", "ValueError"), ("work", "PayloadError")]
        await eventually(lambda: f"The journal of run {doubled} cannot be continued" in caplog.text)
        assert [entry.result for entry in await app.journal(doubled) if entry.node == "work"] == ["somebody's"]
    assert set(gate.calls.values()) == {1}
