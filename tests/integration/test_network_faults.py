"""Workers and clients whose network cuts, swallows and loses: connections end, stand still, or lose one answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Durable, StoreUnavailableError
from stepwell.runtime.system import SystemRuntime
from stepwell.runtime.tuning import Tuning
from tests.network_faults import CountedCalls, check, cross, ended, fetch, fresh_schema, own_server
from tests.proxy import Proxy
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

RUNS = 30
SHORT = 1.5
"""Seconds after which an answer counts as lost here."""


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A network before a server."""
    async with Proxy(own_server().dsn) as proxy:
        yield proxy


def impatient(**more: Any) -> SystemRuntime:
    """A runtime by which answers count as lost much sooner than they do for users."""
    tuning = Tuning(
        connect_seconds=SHORT,
        answer_seconds=SHORT,
        long_answer_seconds=SHORT,
        heartbeat_answer_seconds=SHORT,
        notification_seconds=SHORT,
    )
    return SystemRuntime(replace(tuning, **more))


async def test_connections_cut_again_and_again_cost_no_run_and_no_second_call(proxy: Proxy) -> None:
    counted, direct = CountedCalls(), fresh_schema(own_server().dsn)
    async with Durable(proxy.url(direct), counted.workflows(), lease=2) as app, app.worker() as worker:
        worker_id = worker.worker_id
        clients = [asyncio.create_task(cross(app, f"run {number}")) for number in range(RUNS)]
        for calls in range(4, 2 * RUNS, 4):
            await counted.reached(calls)
            proxy.cut()
        await check(app, direct, counted, await asyncio.gather(*clients))
        assert counted.repeated() == {}
        assert worker.worker_id == worker_id


async def test_half_open_connections_are_given_up_and_cost_no_run_and_no_second_call(proxy: Proxy) -> None:
    counted, direct = CountedCalls(), fresh_schema(own_server().dsn)
    async with (
        Durable(proxy.url(direct), counted.workflows(), lease=4, runtime=impatient()) as app,
        app.worker() as worker,
    ):
        worker_id = worker.worker_id
        clients = [asyncio.create_task(cross(app, f"run {number}")) for number in range(RUNS)]
        await counted.reached(RUNS // 4, "last")
        proxy.half_open()
        with pytest.raises(StoreUnavailableError, match="in time"):
            await app.list()
        proxy.heal()
        await check(app, direct, counted, await asyncio.gather(*clients))
        assert counted.repeated() == {}
        assert worker.worker_id == worker_id


CALLS: dict[str, tuple[str, Callable[[Durable, str], Awaitable[Any]]]] = {
    "start": (".inputs (run_id, value)", lambda app, _: app.start("counted", {"key": "lost"}, key="lost")),
    "signal": (".mailbox (run_id, n,", lambda app, run_id: app.signal(run_id, "word", "lost", key="lost")),
    "resume": (".mailbox (run_id, n,", lambda app, run_id: app.resume(run_id, "word", "lost", key="lost")),
}
"""For each call the statement that does it, and the call."""


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("reachable", [True, False], ids=["then-reachable", "then-refused"])
async def test_i6_i10_a_call_whose_answer_was_lost_is_safe_to_repeat_with_its_key(
    proxy: Proxy, call: str, *, reachable: bool
) -> None:
    """Where the server can be reached again the call repeats itself, and else its caller does."""
    statement, make = CALLS[call]
    counted, direct = CountedCalls(), fresh_schema(own_server().dsn)
    async with Durable(proxy.url(direct), counted.workflows()) as app:
        run_id = (await app.start("counted")).run_id
        async with app.worker():
            await eventually(lambda: is_waiting(app, run_id))
        if not reachable:
            proxy.refuse()
        lost = proxy.drop_answer(statement)
        if reachable:
            first = await make(app, run_id)
        else:
            with suppress(StoreUnavailableError):  # it may go by another connection, which is still open
                await make(app, run_id)
            proxy.heal()
            first = await make(app, run_id)
        await asyncio.wait_for(lost.answered(), PATIENCE)
        again = await make(app, run_id)
        assert again == first
        assert len(await fetch(direct, "SELECT FROM mailbox")) == (call != "start")
        assert len(await app.list()) == 1 + (call == "start")
        run_ids = [run.run_id for run in await app.list()]
        async with app.worker():
            for each in run_ids:
                assert (await app.signal(each, "word", "lost", key="lost")).accepted
            results = await ended(app, run_ids)
        assert [one["word"] for one in results] == ["lost"] * len(run_ids)
        await check(app, direct, counted, run_ids)


async def is_waiting(app: Durable, run_id: str) -> bool:
    """Whether the run is parked for its signal."""
    return (await app.status(run_id)).awaiting_signal is not None


async def test_i4_who_is_gone_in_the_middle_of_a_transaction_keeps_its_run_only_as_long_as_the_server_lets_it(
    proxy: Proxy,
) -> None:
    """The server never hears that its client is gone, and would keep the run locked for hours."""
    runtime = impatient(idle_transaction_seconds=1)
    counted, direct = CountedCalls(), fresh_schema(own_server().dsn)
    async with Durable(proxy.url(direct), counted.workflows(), runtime=runtime) as app:
        run_id, other = [one.run_id for one in await app.start_many("counted", range(2))]
        await app.signal(other, "word", 1)  # now the statements are prepared, so that the one held is not half sent
        held = proxy.hold(".mailbox")
        with pytest.raises(StoreUnavailableError):
            await app.signal(run_id, "word", 1)
        await held.reached()
        runtime.tuning = replace(runtime.tuning, long_answer_seconds=30)
        async with app.worker():
            assert (await app.signal(run_id, "word", 2, key="second")).accepted
            (results,) = await ended(app, [run_id])
        assert results["word"] == 2
