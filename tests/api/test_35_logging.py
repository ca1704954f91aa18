"""What a worker logs by default: failed attempts, failed runs and compensators, starts and ends; facts in `extra`."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Abort, Backoff, Durable, RunFailedError, durable
from stepwell.store.logs import logger
from tests.api import running_fixtures
from tests.api.running_fixtures import one
from tests.faulty import faulty_app
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stepwell import Context
    from stepwell.store.records import Advance, Verdict
    from tests.faulty import Commit

url = running_fixtures.url

SOON = Backoff(initial=0.001, factor=1, maximum=0.001, jitter=0)
OWN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


async def fail_twice(ctx: Context) -> int:
    """Fail the first two attempts."""
    if ctx.attempt < 3:
        raise ValueError(f"no\nluck {ctx.attempt}")
    return ctx.attempt


async def give_up(ctx: Context) -> None:
    """Fail for good."""
    raise Abort("out of stock")


def records(caplog: pytest.LogCaptureFixture, event: str) -> list[Any]:
    """The records of the event, as they were logged."""
    return [record for record in caplog.records if getattr(record, "event", None) == event]


async def ended(app: Durable, workflow: str = "flow") -> str:
    """Run it to its end, whatever that is."""
    started = await app.start(workflow)
    async with app.worker():
        try:
            await app.result(started.run_id, timeout=PATIENCE)
        except RunFailedError:
            return started.run_id
    return started.run_id


async def test_each_failed_attempt_is_one_warning_of_one_line_with_its_facts(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    flow = durable("flow").step("charge", fail_twice, retry_backoff=SOON)
    async with Durable(url, [flow]) as app:
        run_id = await ended(app)

    first, second = records(caplog, "attempt_failed")
    assert {one.levelno for one in (first, second)} == {logging.WARNING}
    assert first.name == "stepwell.run"
    assert "\n" not in first.getMessage()
    for words in (run_id, "flow", "charge", "attempt 1", "ValueError: no luck 1", "next try at"):
        assert words in first.getMessage()
    assert (first.run_id, first.workflow, first.node, first.attempt) == (run_id, "flow", "charge", 1)
    assert (first.error_type, first.error_message, second.attempt) == ("ValueError", "no\nluck 1", 2)
    assert first.next_try_at > datetime(2020, 1, 1, tzinfo=UTC)
    assert first.exc_text is None


async def test_a_failed_run_is_an_error_with_the_handlers_traceback(url: str, caplog: pytest.LogCaptureFixture) -> None:
    flow = durable("flow").step("reserve", one, compensate=one).step("charge", give_up)
    async with Durable(url, [flow]) as app:
        run_id = await ended(app)

    (record,) = records(caplog, "run_ended")
    assert (record.levelno, record.name, record.run_id, record.status) == (
        logging.ERROR,
        "stepwell.run",
        run_id,
        "failed",
    )
    assert (
        f"Run {run_id} (flow) failed at charge, attempt 1: Abort: out of stock. Undone: reserve." == record.getMessage()
    )
    assert "in give_up" in record.exc_text
    assert isinstance(record.exc_info[1], Abort)
    assert "in give_up" in caplog.text


async def test_a_compensator_that_fails_for_good_is_an_error_with_its_traceback(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    flow = durable("flow").step("reserve", one, compensate=give_up).step("charge", give_up)
    async with Durable(url, [flow]) as app:
        await ended(app)

    of_charge, of_undo = records(caplog, "attempt_failed")
    assert (of_charge.levelno, of_charge.kind) == (logging.WARNING, "step")
    assert (of_undo.levelno, of_undo.kind, of_undo.node) == (logging.ERROR, "compensate", "reserve")
    assert "in give_up" in of_undo.exc_text
    (run,) = records(caplog, "run_ended")
    assert run.failed_compensations == ("reserve",)


async def test_starts_and_ends_are_for_information_and_claims_for_debugging(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "stepwell")
    async with Durable(url, [durable("flow").step("one", one).sleep("rest", 0.01)]) as app:
        run_id = await ended(app)
        other = await app.start("flow")
        await app.cancel(other.run_id)

    (begun,) = records(caplog, "run_started")
    first, canceled = records(caplog, "run_ended")
    assert (begun.levelno, begun.run_id, begun.workflow) == (logging.INFO, run_id, "flow")
    assert (first.levelno, first.run_id, first.status) == (logging.INFO, run_id, "completed")
    assert (canceled.levelno, canceled.run_id, canceled.status) == (logging.INFO, other.run_id, "canceled")
    for event in ("claimed", "committed", "parked"):
        assert {record.levelno for record in records(caplog, event)} == {logging.DEBUG}


async def test_no_fact_takes_the_name_of_a_records_own(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "stepwell")
    async with Durable(url, [durable("flow").step("charge", give_up)]) as app:
        await ended(app)

    for record in caplog.records:
        assert set(vars(record)) >= OWN - {"message", "asctime"}


async def test_a_failure_for_which_nothing_raised_is_told_too(url: str, caplog: pytest.LogCaptureFixture) -> None:
    flow = durable("flow").wait_for_signal("wait", "go", timeout=0.01)
    async with Durable(url, [flow]) as app:
        await ended(app)

    (record,) = records(caplog, "attempt_failed")
    assert (record.node, record.kind, record.error_type) == ("wait", "signal", "SignalTimeout")
    (run,) = records(caplog, "run_ended")
    assert (run.levelno, run.exc_text) == (logging.ERROR, None)


async def test_a_huge_message_makes_a_record_that_is_bounded(url: str, caplog: pytest.LogCaptureFixture) -> None:
    async def shout(ctx: Context) -> None:
        raise Abort("\x1b[2J" + "a" * 10_000_000)

    async with Durable(url, [durable("flow").step("shout", shout)]) as app:
        await ended(app)

    for record in [*records(caplog, "attempt_failed"), *records(caplog, "run_ended")]:
        assert len(record.getMessage()) < 1_000
        assert "\x1b" not in record.getMessage()
        assert len(logging.Formatter().format(record)) < 20_000


async def test_a_run_in_memory_logs_its_failed_attempts_and_leaves_its_end_to_the_caller(
    caplog: pytest.LogCaptureFixture,
) -> None:
    flow = durable("flow").step("charge", fail_twice, retry_backoff=SOON).step("stop", give_up)
    with pytest.raises(RunFailedError):
        await flow.run()

    assert [record.node for record in records(caplog, "attempt_failed")] == ["charge", "charge", "stop"]
    assert records(caplog, "run_ended") == []


async def test_what_was_not_committed_is_not_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def losing(commit: Commit, worker_id: str, advances: Sequence[Advance]) -> list[Verdict]:
        if not records(caplog, "attempt_failed") and not lost:
            lost.append(True)
            return ["lost"] * len(advances)
        return await commit(worker_id, advances)

    lost: list[bool] = []
    flow = durable("flow").step("charge", fail_twice, retry_backoff=SOON)
    app, faulty = faulty_app(running_fixtures.file_url(tmp_path), [flow], lease=0.2)
    faulty.replace("commit", losing)
    async with app:
        await ended(app)

    assert lost == [True]
    assert [record.attempt for record in records(caplog, "attempt_failed")] == [1, 2]


class DownHandler(logging.Handler):
    """As one that sends records over a connection that is lost."""

    def emit(self, record: logging.LogRecord) -> None:
        raise ConnectionError("the log is down")


class DownFilter(logging.Filter):
    """The same, of a filter."""

    def filter(self, record: logging.LogRecord) -> bool:
        raise ConnectionError("the log is down")


@pytest.mark.parametrize("down", [DownHandler, DownFilter])
async def test_what_a_log_handler_or_filter_raises_is_felt_by_no_run(url: str, down: type[Any]) -> None:
    log = logging.getLogger("stepwell")
    handler = down() if down is DownHandler else logging.NullHandler()
    if down is DownFilter:
        handler.addFilter(down())
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        undone = durable("undone").step("reserve", one, compensate=give_up).step("charge", give_up)
        flow = durable("flow").step("charge", fail_twice, retry_backoff=SOON)
        async with Durable(url, [flow, undone]) as app, app.worker():
            started, other = await app.start("flow"), await app.start("undone")
            assert await app.result(started.run_id, timeout=PATIENCE) == {"charge": 3}
            with pytest.raises(RunFailedError):
                await app.result(other.run_id, timeout=PATIENCE)
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def test_a_record_names_the_line_that_logged_it(caplog: pytest.LogCaptureFixture) -> None:
    try:
        int("why")
    except ValueError:
        logger("stepwell.worker").exception("It failed.")

    (record,) = caplog.records
    assert (record.filename, record.funcName) == ("test_35_logging.py", "test_a_record_names_the_line_that_logged_it")
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError
