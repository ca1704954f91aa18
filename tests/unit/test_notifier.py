"""Notifications over a connection that hears nothing, that is given up, that ends, or that is slow to send."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from stepwell.runtime.system import SystemRuntime
from stepwell.runtime.tuning import Tuning
from stepwell.store.postgres.location import location_of
from stepwell.store.postgres.notifier import Notifier, changes_of, hint_of
from stepwell.store.records import ANY_CHANGES, Changes
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from stepwell.store.postgres.opening import Opener


class Line:
    """A connection that hears nothing, and its opener; it sends when it is let."""

    def __init__(self) -> None:
        self.location = location_of("postgresql://nobody@nowhere/nothing")
        self.runtime = SystemRuntime(Tuning(hear_seconds=0.05, trust_seconds=1e9))
        self.hear: Callable[..., object] | None = None
        self.end: Callable[[object], object] | None = None
        self.sent = 0
        self.hints: list[object] = []
        self.let = asyncio.Event()
        self.let.set()

    def to_listen(self) -> Line:
        """Itself."""
        return self

    async def open_if_room(self, **settings: str) -> Line:
        """Itself."""
        return self

    def add_termination_listener(self, listener: Callable[[object], object]) -> None:
        """Keeps whom to tell of its end."""
        self.end = listener

    async def add_listener(self, channel: str, listener: Callable[..., object]) -> None:
        """Keeps whom to tell what it hears."""
        self.hear = listener

    async def execute(self, *statement: object) -> None:
        """Sends a notification."""
        self.sent += 1
        self.hints.append(statement[-1])
        await self.let.wait()

    def get_server_pid(self) -> int:
        """By which it knows its own notifications."""
        return 1

    def is_closed(self) -> bool:
        """Never."""
        return False

    async def close(self, **options: object) -> None:
        """Nothing is to be closed."""

    def terminate(self) -> None:
        """Nothing is to be closed."""


@pytest.fixture
async def line() -> Line:
    """A connection."""
    return Line()


@pytest.fixture
async def notifier(line: Line) -> AsyncIterator[Notifier]:
    """A notifier over it, which waits for a moment, and looks without being told never while it hears."""
    notifier = Notifier(cast("Opener", line))
    yield notifier
    line.let.set()
    await notifier.close()


def hears(line: Line, pid: int, hint: str = "") -> None:
    """A notification of that process arrives."""
    hear: Any = line.hear
    hear(line, pid, "channel", hint)


async def test_i4_where_nothing_is_heard_each_wait_ends_with_a_look(line: Line, notifier: Notifier) -> None:
    """LISTEN succeeds through a pooler, too, or behind a standby, and nothing ever arrives."""
    for _ in range(4):
        assert await notifier.changed()
    assert line.sent == 1


async def test_i4_who_gives_its_connection_up_looks_instead_of_waiting_to_be_told(
    line: Line, notifier: Notifier
) -> None:
    assert await notifier.changed()
    hears(line, 1)
    assert notifier.give_up()
    for _ in range(3):
        assert await notifier.changed()


async def test_a_notification_of_another_is_news_and_one_of_our_own_is_not(line: Line, notifier: Notifier) -> None:
    assert await notifier.changed()
    hears(line, 1)
    assert not await notifier.changed()
    hears(line, 2)
    assert await notifier.changed()


async def test_i4_the_end_of_the_connection_ends_the_wait_with_a_look(line: Line, notifier: Notifier) -> None:
    """What was sent between its end and the next connection is heard by nobody."""
    assert await notifier.changed()
    hears(line, 1)
    end: Any = line.end
    end(line)
    assert await notifier.changed()


async def test_i4_what_is_asked_while_a_notification_is_sent_is_sent_after_it(line: Line, notifier: Notifier) -> None:
    """The one under way may have been heard, and looked for, before what it is asked for now was committed."""
    assert await notifier.changed()
    line.let.clear()
    notifier.notify()
    await eventually(lambda: line.sent == 2)
    notifier.notify()
    line.let.set()
    await eventually(lambda: line.sent == 3)
    ringing = notifier._ringing
    assert ringing is not None
    await eventually(lambda: ringing.is_over)
    assert line.sent == 3


async def test_i4_what_was_asked_before_the_end_is_sent(line: Line, notifier: Notifier) -> None:
    """Whoever commits and leaves at once has still had the others told."""
    assert await notifier.changed()
    notifier.notify()
    await notifier.close()
    assert line.sent == 2


DUE = Changes(frozenset({3, 12}), ended=False)


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        (DUE, "3 12"),
        (Changes(frozenset(), ended=True), "ended"),
        (Changes(frozenset({7}), ended=True), "ended 7"),
        (ANY_CHANGES, ""),
        (Changes(None, ended=False), ""),
    ],
)
def test_a_hint_names_the_lanes_and_says_whether_runs_ended(changes: Changes, hint: str) -> None:
    assert hint_of(changes) == hint
    assert changes_of(hint) == (changes if hint else ANY_CHANGES)


def test_more_lanes_than_a_hint_holds_are_any() -> None:
    assert hint_of(Changes(frozenset(range(5_000)), ended=False)) == ""


@pytest.mark.parametrize("hint", ["due 3", "3 paused", "-3", "\u0663", "ended!"])
def test_i4_a_hint_in_other_words_says_that_anything_may_have_changed(hint: str) -> None:
    assert changes_of(hint) == ANY_CHANGES


async def test_i4_hints_that_come_together_are_joined(line: Line, notifier: Notifier) -> None:
    assert await notifier.changed() == ANY_CHANGES
    hears(line, 1)
    hears(line, 2, "3")
    hears(line, 3, "ended 12")
    assert await notifier.changed() == Changes(frozenset({3, 12}), ended=True)
    hears(line, 2, "3")
    hears(line, 2)
    hears(line, 2, "4")
    assert await notifier.changed() == ANY_CHANGES
    assert await notifier.changed() is None


async def test_what_is_asked_while_a_hint_is_sent_is_one_hint(line: Line, notifier: Notifier) -> None:
    assert await notifier.changed()
    line.let.clear()
    notifier.notify(DUE)
    await eventually(lambda: line.sent == 2)
    notifier.notify(Changes(frozenset({1}), ended=False))
    notifier.notify(Changes(frozenset({3}), ended=True))
    line.let.set()
    await eventually(lambda: line.sent == 3)
    assert line.hints[1:] == ["3 12", "ended 1 3"]
