"""Durations, counts, shares and instants of every size and kind: refused by name, or within a bound that is told."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Backoff, Context, DefinitionError, Durable, Retry, RunFailedError, StartResult, durable
from tests.api.running_fixtures import file_url, one
from tests.postgres import fresh_url
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INF, NAN = float("inf"), float("nan")
NO_NUMBER: tuple[Any, ...] = (NAN, INF, -INF, True, "1", b"1", [1], Decimal(1), Fraction(1), 1j, object())
NO_DURATION = (*NO_NUMBER, -1, -1e-9, -1e300, -(10**400), 1e300, 10**400, 10**5_000, timedelta.max, timedelta.min)
NO_COUNT = (*NO_NUMBER, -1, 1.0, -(10**400), 10**9 + 1, sys.maxsize, 10**400, 10**5_000)
NO_SHARE = (*NO_NUMBER, -0.1, -(10**400), 10**400, 10**5_000)
NO_INSTANT = (
    datetime(2026, 1, 1),  # noqa: DTZ001 - it is the naive one that is to be refused
    datetime.max,  # noqa: DTZ901 - as above
)
BEYOND = datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))
LAST = datetime.max.replace(tzinfo=UTC)


def short(value: object) -> str:
    """A name for a case, short whatever the value is."""
    try:
        return repr(value)[:24]
    except ValueError:
        return "an integer of 5,001 digits"


def loop(**options: Any) -> object:
    """A loop with these options."""
    return durable("w").loop("n", lambda value, ctx: value, **{"max_iterations": 2, **options})


DURATIONS: dict[str, Callable[[Any], object]] = {
    "initial": lambda given: Backoff(initial=given),
    "maximum": lambda given: Backoff(maximum=given),
    "retry_backoff": lambda given: durable("w").step("n", one, retry_backoff=given),
    "timeout of a step": lambda given: durable("w").step("n", one, timeout=given),
    "timeout of a wait": lambda given: durable("w").wait_for_signal("n", "go", timeout=given),
    "duration": lambda given: durable("w").sleep("n", given),
    "pause": lambda given: loop(pause=given),
    "after": lambda given: Retry("later", after=given),
    "step_timeout": lambda given: Durable("sqlite://", step_timeout=given),
    "lease": lambda given: Durable("sqlite://", lease=given),
}
COUNTS: dict[str, Callable[[Any], object]] = {
    "max_retries": lambda given: durable("w").step("n", one, max_retries=given),
    "max_iterations": lambda given: loop(max_iterations=given),
    "max_crashes": lambda given: Durable("sqlite://", max_crashes=given),
    "max_value_bytes": lambda given: Durable("sqlite://", max_value_bytes=given),
}
SHARES: dict[str, Callable[[Any], object]] = {
    "factor": lambda given: Backoff(factor=given),
    "jitter": lambda given: Backoff(jitter=given),
}


@pytest.mark.parametrize("option", DURATIONS)
def test_what_is_no_duration_is_refused_by_its_option(option: str) -> None:
    for bad in NO_DURATION:
        with pytest.raises(DefinitionError, match=option.partition(" ")[0]) as caught:
            DURATIONS[option](bad)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("option", COUNTS)
def test_what_is_no_count_is_refused_by_its_option(option: str) -> None:
    for bad in NO_COUNT:
        with pytest.raises(DefinitionError, match=option) as caught:
            COUNTS[option](bad)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("option", SHARES)
def test_what_is_no_factor_or_share_is_refused_by_its_option(option: str) -> None:
    for bad in NO_SHARE:
        with pytest.raises(DefinitionError, match=option) as caught:
            SHARES[option](bad)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("bad", NO_INSTANT, ids=str)
@pytest.mark.parametrize("option", ["duration", "pause"])
def test_an_instant_without_a_zone_is_refused_by_its_option(option: str, bad: datetime) -> None:
    with pytest.raises(DefinitionError, match=option):
        DURATIONS[option](bad)


@pytest.mark.parametrize("option", ["grace", "concurrency", "threads", "limit", "delay", "timeout"])
async def test_what_a_call_cannot_use_is_refused_by_its_name_and_starts_nothing(option: str) -> None:
    async with Durable("sqlite://", [durable("w").step("n", one)]) as app:
        for bad in NO_DURATION if option in {"grace", "delay", "timeout"} else NO_COUNT:
            with pytest.raises(DefinitionError, match=option):  # noqa: PT012 - the call alone raises, whichever it is
                match option:
                    case "delay":
                        await app.start("w", delay=bad)
                    case "limit":
                        await app.list(limit=bad)
                    case "timeout":
                        await app.result("0197f0a0-0000-7000-8000-000000000000", timeout=bad)
                    case _:
                        app.worker(**{option: bad})
        assert await app.list() == []


@pytest.mark.parametrize("bad", [NAN, -1, 10**400, 10**5_000, "1", NO_INSTANT[1], NO_INSTANT[0]], ids=short)
async def test_a_function_that_gives_no_duration_or_instant_fails_its_node_by_name(bad: Any) -> None:
    def again(ctx: Context) -> None:
        raise Retry("later", after=bad)

    flows = [
        durable("pause").loop("n", lambda v, ctx: v, max_iterations=2, pause=lambda r, i: bad, max_retries=0),
        durable("retry").step("n", again, max_retries=0),
    ]
    for flow in flows:
        async with Durable("sqlite://", [flow]) as app, app.worker():
            with pytest.raises(RunFailedError) as caught:
                await app.result((await app.start(flow)).run_id, timeout=PATIENCE)
        error = caught.value.error
        assert error.node == "n"
        assert error.type in {"ValueError", "DefinitionError"}
        assert any(word in error.message for word in ("the pause of n", "Retry: after"))


async def test_a_sleep_whose_function_gives_no_duration_fails_its_attempt_by_name() -> None:
    flow = durable("sleep").sleep("n", lambda ctx: 10**400)
    async with Durable("sqlite://", [flow]) as app, app.worker():
        started = await app.start(flow)

        async def has_failed_once() -> bool:
            return bool(await app.journal(started.run_id))

        await eventually(has_failed_once)
        error = (await app.journal(started.run_id))[0].error
    assert error is not None
    assert (error.node, error.type) == ("n", "ValueError")
    assert error.message.startswith("the duration of n must be at most a thousand years")


@pytest.mark.parametrize("factor", [1e308, 10**308])
async def test_a_backoff_that_leaves_the_range_of_numbers_ends_at_its_maximum(factor: float) -> None:
    backoff = Backoff(initial=1e10, factor=factor, maximum=timedelta(days=366_000), jitter=1)
    for failed in (1, 2, 1_000):
        assert 0 <= backoff.delay(failed, 1.0) <= 2 * 366_000 * 86_400 * 10**6


def stores(folder: Path) -> list[str]:
    """Each store."""
    return ["sqlite://", file_url(folder), fresh_url()]


@pytest.mark.slow
async def test_the_longest_waits_there_are_can_be_read_on_every_store(tmp_path: Path) -> None:
    longest = timedelta(days=366_000)

    def again(ctx: Context) -> None:
        raise Retry("in a thousand years", after=longest)

    flows = [
        durable("last").sleep("n", LAST),
        durable("beyond").sleep("n", BEYOND),
        durable("asked").sleep("n", lambda ctx: BEYOND),
        durable("sleep").sleep("n", longest),
        durable("retry").step("n", again),
        durable("backoff").step("n", lambda ctx: 1 / 0, retry_backoff=Backoff(longest, 1e308, longest, 0)),
        durable("loop").loop("n", lambda v, ctx: v, max_iterations=10**9, pause=longest, max_retries=10**9),
        durable("wait").wait_for_signal("n", "go", timeout=longest),
    ]
    for url in stores(tmp_path):
        options: dict[str, Any] = {"lease": longest, "step_timeout": longest, "max_crashes": 10**9}
        async with Durable(url, flows, **options) as app:
            started = [await app.start(flow) for flow in flows]
            started.append(await app.start("wait", delay=longest))
            async with app.worker(grace=longest, concurrency=10**9, threads=10**9):

                async def all_wait(app: Durable = app, started: list[StartResult] = started) -> bool:
                    snapshots = [await app.status(each.run_id) for each in started]
                    assert [each.damaged for each in snapshots] == [None] * len(snapshots)
                    return all(each.wake_at is not None and each.wake_at.year > 3_000 for each in snapshots)

                await eventually(all_wait)
            assert len(await app.list(limit=10**9)) == len(started)


def test_an_instant_before_the_calendar_of_utc_is_past() -> None:
    first = datetime.min.replace(tzinfo=timezone(timedelta(hours=12)))
    assert [node.name for node in durable("w").sleep("n", first).nodes] == ["n"]


@pytest.mark.slow
async def test_a_beat_comes_within_the_hour_however_long_the_lease_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from stepwell.runtime.system import SystemRuntime  # noqa: PLC0415 - only this test looks behind the public names

    asked: list[float] = []

    class Watched(SystemRuntime):
        def repeat(self, what: Any, every: float, at_end: Any, name: str) -> Any:
            asked.append(every)
            return super().repeat(what, min(every, 3_600), at_end, name)

    app = Durable(fresh_url(), [durable("w").step("n", one)], lease=timedelta(days=366_000), runtime=Watched())
    async with app, app.worker():
        assert await app.result((await app.start("w")).run_id, timeout=PATIENCE) == {"n": 1}
    assert asked
    assert max(asked) <= 3_600
