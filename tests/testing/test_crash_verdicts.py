"""Tests of what `crash_everywhere` says of a run that failed, or got stuck: what is undone, and whose fault it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Abort, Branch, durable
from stepwell.testing import StandstillError, crash_everywhere
from tests.api.handlers import nothing

if TYPE_CHECKING:
    from stepwell import Context, Workflow
    from stepwell.testing import CrashReport

TWICE_CALLED = ["after the last line of once", "before the commit of once"]


class Shop:
    """An outside world whose last step bears no second call, and a charge that can be given back."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.charged: set[str] = set()
        self.seen: set[str] = set()

    def probe(self) -> dict[str, int]:
        return {"charged": len(self.charged)}

    async def charge(self, ctx: Context) -> str:
        self.charged.add(ctx.idempotency_key)
        return ctx.idempotency_key

    async def refund(self, ctx: Context) -> None:
        self.charged.clear()

    async def once(self, ctx: Context) -> None:
        if ctx.idempotency_key in self.seen:
            raise Abort("no second call")
        self.seen.add(ctx.idempotency_key)


async def fail(ctx: Context) -> None:
    raise Abort("it cannot be undone")


async def played(shop: Shop, workflow: Workflow, **options: Any) -> CrashReport:
    return await crash_everywhere(workflow, 7, probe=shop.probe, reset=shop.reset, **options)


def ended(report: CrashReport, how: str) -> list[str]:
    return [point.place for point in report.points if point.ended == how]


async def test_a_run_that_failed_and_left_nothing_behind_is_compensated() -> None:
    shop = Shop()
    report = await played(
        shop, durable("shop").step("pay", shop.charge, compensate=shop.refund).step("once", shop.once)
    )

    assert report.ok, str(report)
    assert ended(report, "compensated") == TWICE_CALLED
    assert report.notes == ()


@pytest.mark.parametrize("compensate", [nothing, None])
async def test_a_run_that_failed_and_left_a_charge_behind_is_not_compensated(compensate: Any) -> None:
    shop = Shop()
    report = await played(shop, durable("shop").step("pay", shop.charge, compensate=compensate).step("once", shop.once))

    assert not report.ok
    assert ended(report, "otherwise") == TWICE_CALLED
    assert report.harmful[0].differences == (
        "it failed: once: Abort: no second call",
        'it left the state {"charged": 1}; before the run it was {"charged": 0}',
    )
    assert list(report.not_idempotent) == ["once"]


async def test_where_the_undisturbed_run_fails_alike_is_what_that_one_left() -> None:
    shop = Shop()
    left = durable("shop").step("pay", shop.charge, compensate=nothing).step("refuse", fail)
    report = await played(shop, left)

    assert (report.status, report.ok) == ("failed", True), str(report)
    assert {point.ended for point in report.points} == {"alike"}


async def test_without_a_probe_the_report_says_that_nobody_looked_what_stayed_behind() -> None:
    shop = Shop()
    steps = durable("shop").step("pay", shop.charge, compensate=nothing).step("once", shop.once)
    report = await crash_everywhere(steps, reset=shop.reset)

    assert ended(report, "compensated") == TWICE_CALLED
    assert report.notes == (
        "no probe was given: what the handlers did outside was not compared",
        "the effects of the failed runs are unknown; that they were compensated is judged by the journal alone",
    )


async def test_what_completed_in_a_child_and_could_not_be_undone_is_named() -> None:
    shop = Shop()
    kid = (
        durable("kid")
        .step("pay", nothing, compensate=nothing)
        .route("way", lambda ctx: "air", {"air": Branch(nothing, compensate=fail)})
        .step("once", shop.once)
    )
    report = await crash_everywhere(durable("shop").child_workflow("kid", kid), workflows=[kid], reset=shop.reset)

    assert not report.ok
    assert {point.differences[1:] for point in report.harmful} == {("not compensated: kid > way",)}


async def test_a_lock_that_the_dead_held_is_a_stuck_place_and_nobodys_fault() -> None:
    lock = asyncio.Lock()

    async def locked(ctx: Context) -> None:
        async with lock:
            await asyncio.sleep(0)

    report = await crash_everywhere(durable("one").step("locked", locked), patience=2)

    assert not report.ok
    assert dict(report.not_idempotent) == {}
    assert ended(report, "stuck") == ["at await 1 of locked"]
    stuck = report.harmful[0]
    assert stuck.differences == ("nothing happened for 2 real seconds, in flight: locked",)
    assert "stuck: 1 place\n  at await 1 of locked\n" in str(report)
    assert any("lock" in note for note in report.notes)


async def test_a_stuck_place_names_who_hangs_not_who_died() -> None:
    begun: list[str] = []
    done: list[str] = []

    def reset() -> None:
        begun.clear()
        done.clear()

    async def first(ctx: Context) -> None:
        begun.append(ctx.step)
        await asyncio.sleep(0)
        done.append(ctx.step)

    async def second(ctx: Context) -> None:
        if begun != done:
            await asyncio.Event().wait()

    report = await crash_everywhere(durable("two").step("first", first).step("second", second), reset=reset, patience=2)

    (stuck,) = report.harmful
    assert (stuck.place, stuck.ended) == ("at await 1 of first", "stuck")
    assert stuck.differences == ("nothing happened for 2 real seconds, in flight: second",)


async def test_a_run_that_waits_for_ever_after_a_crash_is_stuck_at_the_node_that_waits() -> None:
    seen: set[str] = set()

    async def forgets(ctx: Context) -> bool:
        again = ctx.idempotency_key in seen
        seen.add(ctx.idempotency_key)
        return again

    waiting = (
        durable("one").step("forgets", forgets).wait_for_signal("answer", "said", when=lambda c: c.results["forgets"])
    )
    report = await crash_everywhere(waiting, reset=seen.clear)

    assert ended(report, "stuck") == ["after the last line of forgets", "before the commit of forgets"]
    assert report.harmful[0].differences == ('one waits at answer for the signal "said"',)
    assert dict(report.not_idempotent) == {}


async def test_a_handler_that_hangs_undisturbed_is_named_after_one_patience() -> None:
    calls: list[str] = []

    async def hang(ctx: Context) -> None:
        calls.append(ctx.step)
        await asyncio.Event().wait()

    with pytest.raises(StandstillError, match="does not end: nothing happened for 1 real seconds, in flight: hang"):
        await crash_everywhere(durable("one").step("hang", hang), patience=1)
    assert calls == ["hang"]


async def test_a_resolver_that_hangs_undisturbed_is_told_by_its_node() -> None:
    async def resolve(ctx: Context) -> str:
        await asyncio.Event().wait()
        return "air"

    with pytest.raises(StandstillError, match="nothing happened for 1 real seconds at way of one"):
        await crash_everywhere(durable("one").route("way", resolve, {"air": nothing}), patience=1)
