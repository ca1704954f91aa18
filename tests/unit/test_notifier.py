"""Notifications over a connection that hears nothing, that is given up, that ends, or that is slow to send."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from stepwell.runtime.system import SystemRuntime
from stepwell.runtime.tuning import Tuning
from stepwell.store.postgres.location import location_of
from stepwell.store.postgres.notifier import Notifier
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


def hears(line: Line, pid: int) -> None:
    """A notification of that process arrives."""
    hear: Any = line.hear
    hear(line, pid, "channel", "")


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
