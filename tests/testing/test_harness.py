"""Tests of the harness: time passes when the test lets it, handlers are faked and their calls recorded by name."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import DefinitionError, Durable, RunCanceledError, RunFailedError, Suspended, durable
from stepwell.testing import Harness, StandstillError
from tests.postgres import fresh_url

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stepwell import Context, Workflow

NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["memory", "file", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return fresh_url()
    return "sqlite://" if request.param == "memory" else f"sqlite:///{tmp_path / 'store.db'}"


async def echo(ctx: Context) -> Any:
    await asyncio.sleep(0)
    return ctx.input


def invoicing() -> Workflow:
    return durable("invoicing").step("bill", lambda ctx: {"billed": ctx.input})


def order() -> Workflow:
    return (
        durable("order")
        .step("charge", echo, compensate=echo)
        .parallel("notify", {"email": echo, "sms": echo})
        .route("ship", lambda ctx: "air", {"air": echo, "sea": echo})
        .loop("poll", lambda value, ctx: value, max_iterations=3, pause=60)
        .sleep("cool_off", timedelta(days=365))
        .wait_for_signal("signoff", "founder", timeout=timedelta(days=3), default="nobody")
        .child_workflow("invoice", "invoicing")
        .step("close", echo)
    )


async def test_a_year_passes_at_once_and_each_timer_fires_at_its_own_instant(url: str) -> None:
    async with Harness([order(), invoicing()], url=url, begins=NOON) as harness:
        run_id = await harness.start("order", 7)
        await harness.advance(minutes=3)
        asleep = await harness.status(run_id)
        await harness.advance(days=364)
        still = await harness.status(run_id)
        await harness.advance(days=2)
        waiting = await harness.status(run_id)
        delivered = await harness.signal(run_id, "founder", "Ada")
        results = await harness.result(run_id)

    woken = NOON + timedelta(minutes=2) + timedelta(days=365)
    assert (asleep.current_node, asleep.wake_at, still.current_node) == ("cool_off", woken, "cool_off")
    assert (waiting.awaiting_signal, waiting.wake_at) == ("founder", woken + timedelta(days=3))
    assert delivered.accepted
    assert results["signoff"] == "Ada"
    assert results["invoice"] == {"bill": {"billed": 7}}
    assert harness.now == NOON + timedelta(minutes=3, days=366)


async def test_a_run_goes_to_its_end_through_every_timer_when_asked_to(url: str) -> None:
    async with Harness([order(), invoicing()], url=url) as harness:
        run_id = await harness.start("order", 7)
        results = await harness.run_until_end(run_id)

    assert results["signoff"] == "nobody"
    assert [call.name for call in harness.calls()][-2:] == ["bill", "close"]


async def test_a_result_lets_no_time_pass_and_says_what_the_run_waits_for() -> None:
    async with Harness([order(), invoicing()], begins=NOON) as harness:
        run_id = await harness.start("order", 7, delay=timedelta(days=1))
        with pytest.raises(StandstillError, match="order is at charge, waiting until 2031-05-02 12:00:00"):
            await harness.result(run_id)
        await harness.advance(days=367)
        with pytest.raises(StandstillError, match='is at signoff, waiting for the signal "founder" or until'):
            await harness.result(run_id)


async def test_a_run_that_time_does_not_end_is_told_by_what_it_waits_for() -> None:
    asking = durable("asking").wait_for_signal("answer", "said")
    async with Harness(asking) as harness:
        run_id = await harness.start(asking)
        with pytest.raises(StandstillError) as stood:
            await harness.run_until_end(run_id)

    assert stood.value.waiting == ('asking is at answer, waiting for the signal "said"',)


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_an_attempts_own_time_is_real(kind: str) -> None:
    let = threading.Event()

    async def hang(ctx: Context) -> None:
        await asyncio.Event().wait()

    def block(ctx: Context) -> None:
        let.wait()

    flow = durable("flow").step("slow", hang if kind == "async" else block, timeout=0.05, max_retries=0)
    try:
        async with Harness([flow]) as harness:
            run_id = await harness.start(flow)
            with pytest.raises(RunFailedError, match=r"ran longer than 0\.05 s"):
                await harness.result(run_id)
    finally:
        let.set()


async def test_retries_wait_for_time_to_pass() -> None:
    answers = [ValueError("down"), ValueError("down"), "up"]

    def fetch(ctx: Context) -> object:
        answer = answers[ctx.attempt - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    fetching = durable("fetching").step("fetch", fetch, retry_backoff="linear")
    async with Harness(fetching) as harness:
        run_id = await harness.start(fetching)
        first = len(harness.calls("fetch"))
        await harness.advance(seconds=0.5)
        early = len(harness.calls("fetch"))
        await harness.advance(seconds=0.5)
        second = len(harness.calls("fetch"))
        results = await harness.run_until_end(run_id)

    assert (first, early, second) == (1, 1, 2)
    assert results == {"fetch": "up"}
    assert [type(call.error) for call in harness.calls("fetch")] == [ValueError, ValueError, type(None)]


async def test_a_fake_is_a_function_a_result_or_an_exception() -> None:
    def email(ctx: Context) -> str:
        return f"to {ctx.input}"

    fakes = {"charge": {"paid": 3}, "email": email, "notify/sms": None, "air": ValueError, "undo charge": None}
    async with Harness([order(), invoicing()], fakes=fakes) as harness:
        run_id = await harness.start("order", "Ada")
        with pytest.raises(RunFailedError) as failed:
            await harness.run_until_end(run_id)

    assert (failed.value.error.type, failed.value.compensated) == ("ValueError", ("charge",))
    assert [call.result for call in harness.calls("charge")] == [{"paid": 3}]
    assert [call.result for call in harness.calls("notify/email")] == ["to Ada"]
    assert [call.attempt for call in harness.calls("ship/air")] == [1, 2, 3, 4]
    assert harness.calls("ship") == harness.calls("air")
    assert harness.calls("sea") == []
    (undone,) = harness.calls("undo charge")
    assert undone.idempotency_key == f"{run_id}/charge/~undo"


async def test_the_calls_of_a_loop_are_recorded_with_their_inputs() -> None:
    counting = durable("counting").loop("count", lambda value, ctx: value + 1, max_iterations=3, feedback=lambda r: r)
    async with Harness([counting]) as harness:
        await harness.run_until_end(await harness.start(counting, 5))

    calls = harness.calls("count")
    assert [(call.iteration, call.input, call.result, call.is_over) for call in calls] == [
        (1, 5, 6, True),
        (2, 6, 7, True),
        (3, 7, 8, True),
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Harness([order()], fakes={"chrage": 1}),
        lambda: Harness([order()], fakes={"cool_off": 1}),
        lambda: Harness([order()]).calls("chrage"),
    ],
)
def test_a_name_that_no_handler_has_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(DefinitionError, match="no handler"):
        make()


async def test_the_workflow_itself_stays_as_it_was() -> None:
    original = durable("original").step("one", echo)
    async with Harness(original, fakes={"one": 2}) as harness:
        assert await harness.result(await harness.start(original, 1)) == {"one": 2}
    original.step("two", echo)

    assert (await original.run(1)).results == {"one": 1, "two": 1}


async def test_ids_and_delays_are_the_same_for_the_same_seed() -> None:
    failing = durable("failing").step("fail", ValueError)

    async def play(seed: int) -> tuple[str, str]:
        async with Harness(failing, fakes={"fail": ValueError("no")}, seed=seed, begins=NOON) as harness:
            run_id = await harness.start(failing)
            return run_id, str((await harness.status(run_id)).wake_at)

    assert await play(1) == await play(1)
    assert (await play(1))[1] != (await play(2))[1]


async def test_a_suspended_step_is_resumed_and_a_canceled_run_says_so() -> None:
    def ask(ctx: Context) -> Any:
        return Suspended({"asked": True}) if ctx.resume_data is None else ctx.resume_data

    agent = durable("agent").step("ask", ask)
    async with Harness(agent) as harness:
        one, other = await harness.start(agent), await harness.start(agent, key="other")
        again = await harness.start(agent, key="other")
        await harness.resume(one, "ask", "yes")
        await harness.cancel(other)
        with pytest.raises(RunCanceledError):
            await harness.result(other)

        assert (await harness.result(one), again) == ({"ask": "yes"}, other)
        assert [entry.status for entry in await harness.journal(one)] == ["suspended", "completed"]


async def test_a_handler_that_does_not_end_is_named() -> None:
    held = asyncio.Event()

    async def hang(ctx: Context) -> None:
        await held.wait()

    hanging = durable("hanging").step("hang", hang)
    async with Harness(hanging, patience=0.5) as harness:
        with pytest.raises(StandstillError, match="In flight: hang of run"):
            await harness.start(hanging)
        held.set()
        await harness.settle()


async def test_what_ran_in_the_harness_can_be_read_by_an_app_of_its_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    async with Harness([order(), invoicing()], url=url, begins=NOON) as harness:
        run_id = await harness.start("order", 7)
    async with Harness([order(), invoicing()], url=url, begins=NOON + timedelta(days=9)) as harness:
        await harness.run_until_end(run_id)
    async with Durable(url) as app:
        assert (await app.status(run_id)).status == "completed"


async def test_the_instant_can_be_moved_to_a_date() -> None:
    sleeping = durable("sleeping").sleep("until_noon", NOON)
    async with Harness(sleeping, begins=NOON - timedelta(hours=5)) as harness:
        run_id = await harness.start(sleeping)
        await harness.advance(until=NOON - timedelta(seconds=1))
        assert (await harness.status(run_id)).status == "running"
        await harness.advance(timedelta(seconds=1))
        assert await harness.result(run_id) == {"until_noon": None}


async def test_the_fixture_gives_a_harness(stepwell_harness: Callable[..., Harness]) -> None:
    async with stepwell_harness([order(), invoicing()], fakes={"charge": 1}) as harness:
        run_id = await harness.start(order(), 7)

        assert (await harness.run_until_end(run_id))["charge"] == 1
