"""A portal answers every call, however it ends."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from stepwell.runtime.portal import Portal, PortalClosedError
from stepwell.runtime.system import SystemRuntime
from tests.waiting import PATIENCE


class HeldLoop(asyncio.SelectorEventLoop):
    """An event loop that stops at its close until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.closing, self.let = threading.Event(), threading.Event()

    def close(self) -> None:
        if not self.is_closed():
            self.closing.set()
            assert self.let.wait(PATIENCE)
        super().close()


def called(portal: Portal, make: Any) -> tuple[threading.Thread, list[object]]:
    """A thread that calls, and what came of it."""
    ended: list[object] = []

    def call() -> None:
        try:
            ended.append(portal.call(make))
        except BaseException as error:  # noqa: BLE001  it is looked at
            ended.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread, ended


async def never() -> None:
    await asyncio.Event().wait()


def test_a_call_gives_what_it_returns_or_raises() -> None:
    async def good() -> int:
        return 1

    async def bad() -> None:
        raise KeyError("bad")

    portal = Portal(SystemRuntime())
    assert portal.call(good) == 1
    with pytest.raises(KeyError, match="bad"):
        portal.call(bad)
    portal.end()
    with pytest.raises(PortalClosedError):
        portal.call(good)


def test_a_call_that_is_left_when_it_ends_is_cancelled_and_answered() -> None:
    begun, canceled = threading.Event(), threading.Event()

    async def wait() -> None:
        begun.set()
        try:
            await never()
        finally:
            canceled.set()

    portal = Portal(SystemRuntime())
    thread, ended = called(portal, wait)
    assert begun.wait(PATIENCE)
    portal.end()
    thread.join(PATIENCE)
    assert canceled.is_set()
    assert [type(one) for one in ended] == [PortalClosedError]


def test_a_call_that_comes_as_the_loop_ends_is_answered() -> None:
    loop = HeldLoop()
    portal = Portal(SystemRuntime(), lambda: loop)
    ending = threading.Thread(target=portal.end)
    ending.start()
    assert loop.closing.wait(PATIENCE)
    threads = [called(portal, never) for _ in range(3)]
    while len(portal._waiting) < 3:
        threads[0][0].join(0.01)
    loop.let.set()
    ending.join(PATIENCE)
    for thread, ended in threads:
        thread.join(PATIENCE)
        assert [type(one) for one in ended] == [PortalClosedError]
