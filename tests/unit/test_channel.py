"""The channel between handlers and their drive: when a question is served, and what becomes of a late one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pytest

from stepwell.engine.driving.channel import Answered, Channel, Kept
from stepwell.engine.driving.channels import Channels
from stepwell.errors import AttemptOverError, DurableError
from stepwell.store.codec import PLAIN
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from stepwell.core.journal import JournalRow
    from stepwell.core.state import RunState
    from stepwell.workflow.context import Facts


class Attempt:
    """One attempt; another one is never equal to it."""

    step = "work"


class Drive:
    """Stands for the drive of a run: it notes what is kept and committed, and a test says how a commit ends."""

    run_id = "run"

    def __init__(self) -> None:
        self.state = cast("RunState", None)
        self.is_at_rest = True
        self.in_flight: list[Any] = []
        self.pending: list[str] = []
        self.commits: list[list[str]] = []
        self.let = asyncio.Event()
        self.is_lost = False
        self.refusal: Exception | None = None
        self.is_stopped = False
        self._channel = Channel(self)

    def attempt(self) -> Facts:
        """An attempt that has begun."""
        made = Attempt()
        self.in_flight.append(made)
        return cast("Facts", made)

    def is_in_flight(self, facts: Facts) -> bool:
        """Whether it has begun, and not ended."""
        return any(facts is one for one in self.in_flight)

    def now(self) -> int:
        """An instant."""
        return 0

    def keep(self, row: JournalRow) -> None:
        """Has it committed with the next commit."""
        self.pending.append(str(row))

    async def flush(self) -> bool:
        """Commits, as soon as the test lets it."""
        rows, self.pending = self.pending, []
        self.commits.append(rows)
        await self.let.wait()
        if self.refusal is not None:
            raise self.refusal
        return not self.is_lost

    def stop(self) -> None:
        """The run is lost."""
        self.is_stopped = True

    def channel(self) -> Channel:
        """Its channel."""
        return self._channel


class Keep(NamedTuple):
    """A question with something to store."""

    row: str

    def reply(self, state: RunState, facts: Facts, now: int) -> Kept:
        """Stores it."""
        return Kept(cast("JournalRow", self.row), self.row.upper())


class Known(NamedTuple):
    """A question without anything to store."""

    def reply(self, state: RunState, facts: Facts, now: int) -> Answered:
        """The answer."""
        return Answered("known")


class Mistake(NamedTuple):
    """A question that is wrong."""

    def reply(self, state: RunState, facts: Facts, now: int) -> Answered:
        """No answer."""
        raise ValueError("two at once need keys")


@pytest.fixture
async def drive() -> Drive:
    """A drive at rest."""
    return Drive()


def committed(drive: Drive, number: int) -> Any:
    """Waits until so many commits have set out."""
    return eventually(lambda: len(drive.commits) >= number)


async def test_i2_an_answer_comes_after_the_commit_that_holds_its_row(drive: Drive) -> None:
    answer = drive.channel().ask(drive.attempt(), Keep("a"))
    await committed(drive, 1)
    assert drive.commits == [["a"]]
    assert not answer.done()
    drive.let.set()
    assert await answer == "A"


async def test_what_is_asked_during_a_commit_shares_the_next_one(drive: Drive) -> None:
    attempt = drive.attempt()
    first = drive.channel().ask(attempt, Keep("a"))
    await committed(drive, 1)
    others = [drive.channel().ask(attempt, Keep(row)) for row in "bc"]
    drive.let.set()
    assert [await one for one in (first, *others)] == ["A", "B", "C"]
    assert drive.commits == [["a"], ["b", "c"]]


async def test_a_cancel_of_what_serves_before_its_first_step_delays_the_answer(drive: Drive) -> None:
    answer = drive.channel().ask(drive.attempt(), Keep("a"))
    (serving,) = [task for task in asyncio.all_tasks() if task.get_name().endswith("/asked")]
    serving.cancel()
    drive.let.set()
    async with asyncio.timeout(PATIENCE):
        await drive.channel().quiet()
        assert await answer == "A"


async def test_what_needs_no_row_is_answered_without_a_commit(drive: Drive) -> None:
    assert await drive.channel().ask(drive.attempt(), Known()) == "known"
    assert drive.commits == []


async def test_a_wrong_question_is_raised_to_who_asks_and_to_nobody_else(drive: Drive) -> None:
    drive.let.set()
    attempt = drive.attempt()
    wrong, right = drive.channel().ask(attempt, Mistake()), drive.channel().ask(attempt, Keep("a"))
    with pytest.raises(ValueError, match="need keys"):
        await wrong
    assert await right == "A"


async def test_nothing_is_served_until_the_drive_is_at_rest(drive: Drive) -> None:
    drive.let.set()
    drive.is_at_rest = False
    answer = drive.channel().ask(drive.attempt(), Keep("a"))
    await asyncio.sleep(0)
    await drive.channel().quiet()
    assert drive.commits == []
    drive.is_at_rest = True
    drive.channel().serve()
    assert await answer == "A"


async def test_a_drive_that_goes_on_waits_for_what_is_being_served(drive: Drive) -> None:
    attempt = drive.attempt()
    answer = drive.channel().ask(attempt, Keep("a"))
    await committed(drive, 1)
    later = drive.channel().ask(attempt, Keep("b"))
    drive.is_at_rest = False
    drive.in_flight.clear()
    going_on = asyncio.ensure_future(drive.channel().quiet())
    await asyncio.sleep(0)
    assert not going_on.done()
    drive.let.set()
    await going_on
    assert await answer == "A"
    with pytest.raises(AttemptOverError):
        await later
    assert drive.commits == [["a"]]


async def test_nothing_is_written_for_an_attempt_that_is_over(drive: Drive) -> None:
    attempt = drive.attempt()
    drive.in_flight.clear()
    with pytest.raises(AttemptOverError, match="attempt at work of run run is over") as raised:
        await drive.channel().ask(attempt, Keep("a"))
    assert (raised.value.run_id, raised.value.step, raised.value.code) == ("run", "work", "attempt_over")
    assert (drive.pending, drive.commits) == ([], [])


async def test_nothing_is_written_for_a_handler_that_waits_no_more(drive: Drive) -> None:
    attempt = drive.attempt()
    first = drive.channel().ask(attempt, Keep("a"))
    await committed(drive, 1)
    drive.channel().ask(attempt, Keep("b")).cancel()
    third = drive.channel().ask(attempt, Keep("c"))
    drive.let.set()
    assert [await first, await third] == ["A", "C"]
    assert drive.commits == [["a"], ["c"]]


async def test_i3_a_lost_commit_stops_the_drive_and_answers_nobody(drive: Drive) -> None:
    attempt, drive.is_lost = drive.attempt(), True
    answer = drive.channel().ask(attempt, Keep("a"))
    await committed(drive, 1)
    later = drive.channel().ask(attempt, Keep("b"))
    drive.let.set()
    await asyncio.wait({answer})
    assert answer.cancelled()
    assert drive.is_stopped
    drive.channel().close()
    for late in (later, drive.channel().ask(attempt, Keep("c"))):
        with pytest.raises(AttemptOverError):
            await late
    assert drive.commits == [["a"]]


async def test_what_the_store_refuses_is_raised_to_the_drive(drive: Drive) -> None:
    attempt, drive.refusal = drive.attempt(), ValueError("cannot be kept")
    drive.let.set()
    answer = drive.channel().ask(attempt, Keep("a"))
    await asyncio.wait({answer})
    assert answer.cancelled()
    with pytest.raises(AttemptOverError):
        await drive.channel().ask(attempt, Keep("b"))
    with pytest.raises(ValueError, match="cannot be kept"):
        await drive.channel().quiet()
    assert drive.commits == [["a"]]


async def test_the_end_of_the_drive_ends_all_that_was_asked(drive: Drive) -> None:
    attempt = drive.attempt()
    under_way = drive.channel().ask(attempt, Keep("a"))
    await committed(drive, 1)
    waiting = drive.channel().ask(attempt, Keep("b"))
    drive.channel().close()
    await asyncio.wait({under_way})
    assert under_way.cancelled()
    with pytest.raises(AttemptOverError):
        await waiting


async def test_a_plain_handler_asks_from_its_thread_and_waits_there(drive: Drive) -> None:
    drive.let.set()
    channels, attempt = Channels({"run": drive}.get, PLAIN, "warn"), drive.attempt()
    async with asyncio.timeout(PATIENCE):
        assert await asyncio.to_thread(channels.ask_blocking, "run", attempt, Keep("a")) == "A"
        drive.in_flight.clear()  # it timed out; its thread runs on
        with pytest.raises(AttemptOverError):
            await asyncio.to_thread(channels.ask_blocking, "run", attempt, Keep("b"))
    assert drive.commits == [["a"]]


async def test_a_question_of_a_run_that_is_not_driven_here_is_refused(drive: Drive) -> None:
    with pytest.raises(AttemptOverError):
        await Channels({"run": drive}.get, PLAIN, "warn").ask("other", drive.attempt(), Known())


async def test_a_question_that_would_block_an_event_loop_or_comes_from_another_is_refused(drive: Drive) -> None:
    channels, attempt = Channels({"run": drive}.get, PLAIN, "warn"), drive.attempt()
    with pytest.raises(DurableError, match="would block"):
        channels.ask_blocking("run", attempt, Known())

    def elsewhere() -> None:
        asyncio.run(cast("Any", channels.ask("run", attempt, Known())))

    with pytest.raises(DurableError, match="another event loop"):
        await asyncio.to_thread(elsewhere)
