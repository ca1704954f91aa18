"""`Durable(observers=[…])`: who hears of what, and that a run never feels an observer."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import AttemptEnded, Backoff, DefinitionError, Durable, Observer, RunEnded, durable
from stepwell.engine.observer import EVENTS, Observers
from tests.api import running_fixtures
from tests.api.running_fixtures import file_url, one, two
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stepwell import Context

url = running_fixtures.url

SOON = Backoff(initial=0.001, factor=1, maximum=0.001, jitter=0)


class Ear(Observer):
    """Hears everything."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []

    def of(self, name: str) -> list[Any]:
        """The events of that name."""
        return [event for heard, event in self.heard if heard == name]


def _hears(name: str) -> Callable[[Ear, Any], None]:
    return lambda ear, event: ear.heard.append((name, event))


for _event in EVENTS:
    setattr(Ear, _event, _hears(_event))


async def once_more(ctx: Context) -> int:
    """Fail the first attempt."""
    if ctx.attempt == 1:
        raise ValueError("no")
    return 1


async def test_an_observer_hears_of_a_run_from_its_start_to_its_end(url: str) -> None:
    ear = Ear()
    flow = durable("flow").step("charge", once_more, retry_backoff=SOON).parallel("both", {"left": one, "right": two})
    async with Durable(url, [flow], observers=[ear]) as app:
        started = await app.start("flow")
        async with app.worker():
            await app.result(started.run_id, timeout=PATIENCE)

    (begun,) = ear.of("run_started")
    (end,) = ear.of("run_ended")
    assert {one.run_id for one in (begun, end)} == {started.run_id}
    assert (end.status, end.error, end.exception) == ("completed", None, None)
    tried = [(each.node, each.attempt) for each in ear.of("attempt_started")]
    assert tried[:2] == [("charge", 1), ("charge", 2)]
    assert {*tried[2:]} == {("left", 1), ("right", 1)}
    outcomes = [(each.node, each.attempt, each.status) for each in ear.of("attempt_ended")]
    assert outcomes[:2] == [("charge", 1, "retrying"), ("charge", 2, "completed")]
    assert {*outcomes[2:]} == {("left", 1, "completed"), ("right", 1, "completed")}
    failed = ear.of("attempt_ended")[0]
    assert isinstance(failed.exception, ValueError)
    assert failed.retry_at is not None
    assert [each.node for each in ear.of("parked")] == ["charge"]
    assert started.run_id in ear.of("claimed")[0].run_ids
    assert sum(each.rows for each in ear.of("committed")) == 4


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, SystemExit, GeneratorExit, StopIteration])
async def test_an_observer_that_raises_is_logged_once_and_hears_nothing_more(
    url: str, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    class Broken(Observer):
        heard = 0

        def attempt_ended(self, event: AttemptEnded) -> None:
            Broken.heard += 1
            raise error

        def run_ended(self, event: RunEnded) -> None:
            Broken.heard += 1

    ear = Ear()
    flow = durable("flow").step("one", one).step("two", two)
    async with Durable(url, [flow], observers=[Broken(), ear]) as app:
        started = await app.start("flow")
        async with app.worker():
            assert await app.result(started.run_id, timeout=PATIENCE) == {"one": 1, "two": 2}

    assert Broken.heard == 1
    (complaint,) = [record for record in caplog.records if "hears nothing more" in record.getMessage()]
    assert (complaint.levelno, complaint.name) == (logging.ERROR, "stepwell.worker")
    assert [each.node for each in ear.of("attempt_ended")] == ["one", "two"]
    assert len(ear.of("run_ended")) == 1


async def test_a_canceled_run_is_told_by_the_process_that_cancels_it(url: str) -> None:
    ear = Ear()
    async with Durable(url, [durable("flow").step("one", one)], observers=[ear]) as app:
        started = await app.start("flow")
        await app.cancel(started.run_id)
        await app.cancel(started.run_id)

    (end,) = ear.of("run_ended")
    assert (end.run_id, end.status) == (started.run_id, "canceled")


async def test_a_run_that_is_canceled_or_taken_elsewhere_is_told_as_a_lost_lease(tmp_path: Path) -> None:
    ear, begun = Ear(), asyncio.Event()

    async def wait(ctx: Context) -> None:
        begun.set()
        await asyncio.Event().wait()

    flow = durable("flow").step("wait", wait)
    async with (
        Durable(file_url(tmp_path), [flow], observers=[ear]) as app,
        Durable(file_url(tmp_path), [flow]) as other,
        app.worker() as worker,
    ):
        canceled = await app.start("flow")
        await begun.wait()
        await other.cancel(canceled.run_id)
        (lost,) = await eventually(lambda: ear.of("lease_lost"))
        assert (lost.worker, lost.run_ids) == (worker.worker_id, (canceled.run_id,))
        begun.clear()
        taken = await app.start("flow")
        await begun.wait()
        await other._store.expire(worker.worker_id, None)
        lost = (await eventually(lambda: ear.of("lease_lost")[1:]))[0]
        assert lost.run_ids == (taken.run_id,)
        await app.cancel(taken.run_id)


class Late(Observer):
    """Would have to be awaited."""

    async def run_ended(self, event: RunEnded) -> None:  # type: ignore[override]  # that is the mistake
        """Nothing that anybody awaits."""


@pytest.mark.parametrize(
    "mistake", [Observer(), object(), Observer, Late(), None], ids=["deaf", "any", "class", "late", "None"]
)
def test_what_hears_nothing_or_must_be_awaited_is_refused(mistake: Any) -> None:
    with pytest.raises(DefinitionError, match="observer"):
        Durable("sqlite://", observers=[mistake])


def test_an_event_that_nobody_hears_has_no_listeners() -> None:
    class Ends(Observer):
        def run_ended(self, event: RunEnded) -> None:
            """Only this."""

    observers = Observers([Ends()])
    heard = {name for name in EVENTS if getattr(observers, name)}
    assert heard == {"run_ended"}
    assert not observers.attempt_failed
