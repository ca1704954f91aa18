"""Tests of `crash_everywhere`: it finds what does harm when its process dies, and blames nobody else."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Abort, Branch, Suspended, WorkflowNotRegisteredError, durable
from stepwell.testing import CrashReport, StandstillError, crash_everywhere
from tests.postgres import fresh_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from stepwell import Context, Workflow

ROOM = 80


@pytest.fixture(params=["memory", "file", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return fresh_url()
    return "sqlite://" if request.param == "memory" else f"sqlite:///{tmp_path / 'store.db'}"


class Bank:
    """An outside world: payments by key, a list of mails that nobody counts twice, and a plain counter."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.paid: dict[str, int] = {}
        self.mails: list[str] = []

    def probe(self) -> dict[str, Any]:
        return {"paid": sorted(self.paid.items()), "mails": len(self.mails)}

    async def pay(self, ctx: Context) -> str:
        await asyncio.sleep(0)
        self.paid[ctx.idempotency_key] = 10
        return ctx.idempotency_key

    def pay_plainly(self, ctx: Context) -> str:
        self.paid[ctx.idempotency_key] = 10
        return ctx.idempotency_key

    async def refund(self, ctx: Context) -> None:
        self.paid.pop(ctx.results[ctx.step], None)

    async def mail(self, ctx: Context) -> str:
        self.mails.append(ctx.run_id)
        return "sent"

    def mail_plainly(self, ctx: Context) -> None:
        self.mails.append(ctx.run_id)


async def give(ctx: Context) -> Any:
    await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
    return ctx.input


async def played(bank: Bank, workflow: Workflow, **options: Any) -> CrashReport:
    return await crash_everywhere(workflow, 7, probe=bank.probe, reset=bank.reset, **options)


def everything(bank: Bank) -> tuple[Workflow, Workflow]:
    """A workflow with every kind of node, whose handlers are all idempotent, and its child's."""

    def ask(ctx: Context) -> Any:
        return Suspended("may I?") if ctx.resume_data is None else ctx.resume_data

    def flaky(ctx: Context) -> int:
        if ctx.attempt == 1:
            raise ValueError("down")
        return ctx.attempt

    child = durable("child").step("bill", bank.pay, compensate=bank.refund).sleep("nap", 60)
    parent = (
        durable("everything")
        .step("pay", bank.pay, compensate=bank.refund)
        .step("pay_plainly", bank.pay_plainly, compensate=bank.refund)
        .step("flaky", flaky)
        .step("ask", ask)
        .parallel("both", {"one": Branch(bank.pay, compensate=bank.refund), "two": give})
        .route("way", lambda ctx: "air", {"air": Branch(bank.pay, compensate=bank.refund), "sea": give})
        .loop("poll", lambda value, ctx: bank.pay_plainly(ctx), max_iterations=2, pause=5, compensate=give)
        .step("never", give, when=lambda ctx: False)
        .sleep("rest", timedelta(days=30))
        .wait_for_signal("wait", "go")
        .wait_for_signal("patience", "nothing", timeout=timedelta(days=1), default=None)
        .child_workflow("kid", child, compensate=lambda ctx: None)
        .step("close", give)
    )
    return parent, child


async def test_a_workflow_of_every_kind_of_node_that_is_idempotent_passes_at_every_place() -> None:
    bank = Bank()
    parent, child = everything(bank)

    report = await played(bank, parent, workflows=[child], signals={"go": 1, "ask": "yes"})

    assert report.ok, str(report)
    report.assert_ok()
    assert {point.ended for point in report.points} == {"alike"}
    assert (report.status, report.notes, dict(report.not_idempotent)) == ("completed", (), {})
    places = {point.place for point in report.points}
    assert {
        "before the first line of pay",
        "after the last line of pay",
        "before the commit of pay",
        "after the commit of pay",
        "after the commit of flaky, retrying 1",
        "before the first line of flaky (attempt 2)",
        "before the commit of ask, suspended 1",
        "before the first line of ask (entered again, 1)",
        "after the commit of the choice at way",
        "after the last line of way/air",
        "before the commit of poll #2",
        "after the commit of rest",
        "before the commit of wait",
        "before the commit of kid > nap",
        "after the commit of kid",
    } <= places


async def test_a_compensation_of_every_kind_of_node_that_is_idempotent_passes_at_every_place() -> None:
    bank = Bank()
    parent, child = everything(bank)

    report = await played(bank, parent, workflows=[child], signals={"go": 1, "ask": "yes"}, failing="close", awaits=0)

    assert report.ok, str(report)
    assert report.status == "failed"
    assert {point.ended for point in report.points} == {"alike"}
    assert {"before the first line of undo way/air", "after the commit of undo poll #1"} <= {
        point.place for point in report.points
    }
    assert {"undo pay", "undo one", "undo kid", "pay"} <= report.ran_twice.keys()


async def test_a_handler_that_is_not_idempotent_is_found_on_every_store(url: str) -> None:
    bank = Bank()
    shop = durable("shop").step("pay", bank.pay).step("mail", bank.mail).step("close", give)

    report = await played(bank, shop, url=url)

    assert not report.ok
    assert list(report.not_idempotent) == ["mail"]
    assert {point.place for point in report.harmful} == {"after the last line of mail", "before the commit of mail"}
    assert report.ran_twice == {"pay": 3, "mail": 2, "close": 3}
    with pytest.raises(AssertionError, match=r"the probe saw .*\"mails\": 2"):
        report.assert_ok()


async def test_a_plain_handler_that_is_not_idempotent_is_found() -> None:
    bank = Bank()
    shop = durable("shop").step("mail", bank.mail_plainly).step("close", give)

    report = await played(bank, shop)

    assert list(report.not_idempotent) == ["mail"]


async def test_a_compensator_that_is_not_idempotent_is_found_on_every_store(url: str) -> None:
    bank = Bank()

    async def apologise(ctx: Context) -> None:
        await bank.mail(ctx)

    shop = durable("shop").step("pay", bank.pay, compensate=apologise).step("ship", give)

    report = await played(bank, shop, url=url, failing="ship")

    assert list(report.not_idempotent) == ["undo pay"]
    assert not report.ok


async def test_a_handler_whose_result_is_another_the_second_time_is_found() -> None:
    bank = Bank()

    async def count(ctx: Context) -> int:
        await bank.mail(ctx)
        return len(bank.mails)

    report = await crash_everywhere(durable("counting").step("count", count), reset=bank.reset)

    assert list(report.not_idempotent) == ["count"]
    assert report.not_idempotent["count"].differences == ("result of count: 2 instead of 1",)


async def test_a_result_that_differs_without_a_crash_blames_nobody() -> None:
    calls = iter(range(1000))
    report = await crash_everywhere(durable("drawing").step("draw", lambda ctx: next(calls)))

    assert report.ok
    assert report.notes == (
        "draw was not compared: its result differs without a crash, too",
        "no probe was given: what the handlers did outside was not compared",
    )


async def test_a_view_that_differs_without_a_crash_blames_nobody_and_is_told() -> None:
    views = iter(range(1000))
    report = await crash_everywhere(durable("one").step("one", give), probe=lambda: next(views), reset=lambda: None)

    assert report.ok
    assert report.notes == ("the probe's view was not compared: two undisturbed runs gave 1 and 2",)


async def test_the_dead_run_no_line_more_not_even_their_finally() -> None:
    lines: list[str] = []
    seen: list[list[str]] = []

    async def inner(name: str) -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        lines.append(name)

    async def careful(ctx: Context) -> None:
        try:
            await asyncio.gather(inner("inner"), inner("inner"))
        finally:
            lines.append("finally")

    async def probe() -> int:
        await asyncio.sleep(0.05)
        seen.append(list(lines))
        return 0

    both = durable("both").parallel("both", {"careful": careful, "quick": give})
    report = await crash_everywhere(both, probe=probe, reset=lines.clear)

    places = [point.place for point in report.points]
    after_death_in_quick = seen[3 + places.index("before the first line of quick")]
    assert after_death_in_quick == ["inner", "inner", "finally"]


async def test_a_plain_handler_in_flight_at_the_death_ends_before_another_takes_over() -> None:
    begun, lines = threading.Event(), []

    def plain(ctx: Context) -> None:
        begun.set()
        lines.append("begins")
        threading.Event().wait(0.02)
        lines.append("ends")

    async def dies_beside(ctx: Context) -> None:
        while not begun.is_set():  # noqa: ASYNC110  a thread sets it
            await asyncio.sleep(0)

    def reset() -> None:
        begun.clear()
        lines.clear()

    both = durable("both").parallel("both", {"plain": plain, "beside": dies_beside})
    report = await crash_everywhere(both, probe=lambda: lines[:2], reset=reset)

    assert report.ok, str(report)


async def test_of_two_that_were_in_flight_both_are_named() -> None:
    bank = Bank()
    both = durable("both").parallel("both", {"one": bank.mail, "two": bank.mail})

    report = await played(bank, both)

    assert set(report.not_idempotent) <= {"one", "two", "one or two"}
    assert report.not_idempotent


async def test_the_report_reads_well_at_80_columns() -> None:
    bank = Bank()
    name = "a_name_of_a_step_that_is_rather_long_and_of_which_nobody_would_be_proud"
    report = await played(bank, durable("shop").step(name, bank.mail).step("close", give))

    assert all(len(line) <= ROOM for line in str(report).splitlines())
    assert name in str(report)


async def test_a_workflow_that_does_not_end_by_itself_is_told() -> None:
    waiting = durable("waiting").wait_for_signal("answer", "said")
    with pytest.raises(StandstillError, match='waits at answer for the signal "said"'):
        await crash_everywhere(waiting)

    assert (await crash_everywhere(waiting, signals={"said": 1})).ok


async def test_the_loop_is_left_as_it_was() -> None:
    loop = asyncio.get_running_loop()
    made: list[Any] = []

    def factory(here: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(work)
        return asyncio.Task(work, loop=here, **options)

    loop.set_task_factory(factory)
    try:
        report = await crash_everywhere(durable("one").step("one", give))
        after = loop.get_task_factory()
    finally:
        loop.set_task_factory(None)

    assert report.ok
    assert after is factory
    assert made
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_handlers_with_groups_timeouts_and_generators_leave_nothing_behind() -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(3):
                await asyncio.sleep(0)
                yield number
        finally:
            await asyncio.sleep(0)

    async def busy(ctx: Context) -> int:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            one = group.create_task(give(ctx))
            total = sum([number async for number in numbers()])
        return total + int(await one)

    both = durable("both").parallel("both", {"one": busy, "two": busy, "three": give}).step("last", busy)
    report = await crash_everywhere(both, 1)

    assert report.ok, str(report)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_one_that_is_given_up_leaves_nothing_behind() -> None:
    held = asyncio.Event()

    async def hang(ctx: Context) -> None:
        await held.wait()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(crash_everywhere(durable("one").step("one", hang)), 0.2)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_workflow_whose_child_is_not_given_is_told_at_once() -> None:
    with pytest.raises(WorkflowNotRegisteredError, match='No workflow "kid"'):
        await crash_everywhere(durable("one").child_workflow("one", "kid"), 1)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_handler_that_marks_its_work_as_done_before_it_does_it_is_found() -> None:
    bank = Bank()

    async def pay_marked(ctx: Context) -> None:
        if ctx.idempotency_key not in bank.paid:
            bank.paid[ctx.idempotency_key] = 10
            await asyncio.sleep(0)
            bank.mails.append("paid")

    report = await played(bank, durable("shop").step("pay", pay_marked))

    assert list(report.not_idempotent) == ["pay"]
    assert [point.place for point in report.harmful] == ["at await 1 of pay"]
    assert (await played(bank, durable("shop").step("pay", pay_marked), awaits=0)).ok


async def test_i17_a_death_at_every_place_calls_no_journaled_sub_step_again(url: str) -> None:
    journaled = set[str]()

    def note(name: str) -> str:
        assert name not in journaled, f"{name} is called again after it was journaled"
        return name

    async def book(ctx: Context) -> list[str]:
        seat = await ctx.run("seat", note, "seat")
        journaled.add(seat)
        meals = await asyncio.gather(*(ctx.run("meal", note, one, key=one) for one in ("soup", "pie")))
        journaled.update(meals)
        return [seat, *meals]

    def pay(ctx: Context) -> str:
        paid = ctx.run_blocking("pay", note, "pay")
        journaled.add(paid)
        return paid

    async def undo(ctx: Context) -> None:
        journaled.add(await ctx.run("undo", note, "undo"))

    async def fail(ctx: Context) -> None:
        raise Abort("no room")

    flow = durable("trip").step("book", book, compensate=undo, max_retries=0).step("pay", pay, max_retries=0)
    report = await crash_everywhere(flow.step("fail", fail), url=url, reset=journaled.clear)
    assert report.ok, str(report)
    assert {point.ended for point in report.points} == {"alike"}
    assert {
        "before the commit of book/seat#1",
        "after the commit of book/seat#1",
        "after the commit of book/meal~pie",
        "before the commit of pay/pay#1",
        "after the commit of undo book/undo#1",
    } <= {point.place for point in report.points}
