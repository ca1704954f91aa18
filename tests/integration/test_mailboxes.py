"""Full mailboxes: messages of other names touch no decision, and are not read by a run that cannot use them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Context, Durable, Suspended, durable
from tests.api.running_fixtures import until_status, url
from tests.faulty import FaultyStore, faulty_app, parks, times_out
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["url"]

MANY = 60


def messages_read(faulty: FaultyStore) -> list[str]:
    """The names of the messages that were read with a claim, or looked for later."""
    loaded = [history.found for verb, _, answer in faulty.answers if verb == "load" for history in answer.values()]
    looked = [answer for verb, _, answer in faulty.answers if verb == "find_messages"]
    return [message.name for found in [*loaded, *looked] for message in found.found]


def looks(faulty: FaultyStore) -> int:
    """How often a run looked into its mailbox after it had been loaded."""
    return sum(verb == "find_messages" for verb, *_ in faulty.answers)


@pytest.mark.parametrize("decision", [parks, times_out])
async def test_i6_a_signal_of_another_name_refuses_neither_a_park_nor_a_timeout(
    url: str, decision: Callable[..., bool]
) -> None:
    flow = durable("flow").wait_for_signal("wait", "go", timeout=0.05, default="timed out")
    app, faulty = faulty_app(url, [flow])
    async with app:
        run_id = (await app.start("flow")).run_id
        stop = faulty.stop_before("commit", decision)
        async with app.worker():
            await stop.reached()
            for number in range(3):
                assert (await app.signal(run_id, "other", number)).accepted
            assert await stop.released() == ["ok"]
            assert await app.result(run_id, timeout=PATIENCE) == {"wait": "timed out"}
    assert "message" not in faulty.verdicts_on(run_id)


async def test_i8_a_signal_refuses_no_park_of_a_parent_that_waits_for_its_child(url: str) -> None:
    child = durable("child").wait_for_signal("wait", "go")
    parent = durable("parent").child_workflow("below", child)
    app, faulty = faulty_app(url, [parent, child])
    async with app, app.worker():
        run_id = (await app.start("parent")).run_id
        await until_status(app, run_id, "suspended")
        for _ in range(3):
            await app.signal(run_id, "other")
        await app.recover()
        (below,) = (await app.status(run_id)).children or ()
        await app.signal(below.run_id, "go", 7)
        assert await app.result(run_id, timeout=PATIENCE) == {"below": {"wait": 7}}
    assert "message" not in faulty.verdicts_on(run_id)


async def test_a_wake_up_among_many_messages_of_other_names_reads_the_one_it_uses_alone(url: str) -> None:
    flow = durable("flow").wait_for_signal("wait", "go").step("last", lambda ctx: 1)
    app, faulty = faulty_app(url, [flow])
    async with app:
        run_id = (await app.start("flow")).run_id
        async with app.worker():
            await until_status(app, run_id, "suspended")
            for number in range(MANY):
                await app.signal(run_id, f"other{number % 7}", "x" * 1_000)
            await app.resume(run_id, "go", 7)
            assert (await app.result(run_id, timeout=PATIENCE))["wait"] == 7
    assert messages_read(faulty) == ["go"]
    assert looks(faulty) == 0


async def test_i6_messages_that_came_early_are_used_in_order_by_the_waits_for_their_names(url: str) -> None:
    flow = durable("flow").wait_for_signal("one", "go")
    for name, signal in (("two", "stop"), ("three", "go"), ("four", "go")):
        flow.wait_for_signal(name, signal)
    app, faulty = faulty_app(url, [flow])
    async with app:
        run_id = (await app.start("flow")).run_id
        for number, name in enumerate(["go", "other", "go", "stop", "go", "stop"]):
            await app.signal(run_id, name, number)
        async with app.worker():
            results = await app.result(run_id, timeout=PATIENCE)
    assert results == {"one": 0, "two": 3, "three": 2, "four": 4}
    assert "message" not in faulty.verdicts_on(run_id)


async def test_i6_a_step_that_suspends_itself_again_and_again_uses_what_came_early_in_order(url: str) -> None:
    async def talk(ctx: Context) -> Any:
        heard = [] if ctx.resume_data is None else [*ctx.results["talk"], ctx.resume_data]
        return heard if len(heard) == 3 else Suspended(heard)

    async with Durable(url, [durable("flow").step("talk", talk)]) as app:
        run_id = (await app.start("flow")).run_id
        for number in range(3):
            await app.signal(run_id, "other")
            await app.signal(run_id, "talk", number)
        async with app.worker():
            assert await app.result(run_id, timeout=PATIENCE) == {"talk": [0, 1, 2]}
