"""The thread of a database file: what was asked before it ends is done, and other processes' writes are let in."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from typing import TYPE_CHECKING

from stepwell.runtime.system import SystemRuntime
from stepwell.store.sqlite.connection import location_of
from stepwell.store.sqlite.transaction_queue import InThread

if TYPE_CHECKING:
    from pathlib import Path


class Noting(SystemRuntime):
    """Half a second passes at each look at the clock, and pauses are noted, not made."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses = 0
        self._seconds = 0.0

    def monotonic(self) -> float:
        """Half a second later each time."""
        self._seconds += 0.5
        return self._seconds

    def pause(self, seconds: float) -> None:
        """Notes it."""
        self.pauses += 1


def write(connection: sqlite3.Connection) -> None:
    """Writes something."""
    connection.execute("CREATE TABLE IF NOT EXISTS some (n)")
    connection.execute("INSERT INTO some VALUES (1)")


async def test_i7_what_was_asked_before_the_end_is_done_and_answered(tmp_path: Path) -> None:
    turns = InThread(location_of(f"sqlite:///{tmp_path / 'store.db'}"), SystemRuntime(), write=True)
    busy, let = threading.Event(), threading.Event()

    def hold(connection: sqlite3.Connection) -> None:
        busy.set()
        let.wait(20)

    held = turns.run(hold)
    asked = [turns.run(write) for _ in range(3)]
    closing = asyncio.ensure_future(turns.close())
    await asyncio.sleep(0)
    let.set()
    async with asyncio.timeout(5):
        await asyncio.gather(held, *asked)
    await closing


async def test_a_writer_lets_others_in_while_they_write_and_else_loses_no_time(tmp_path: Path) -> None:
    clock = Noting()
    path = tmp_path / "store.db"
    turns = InThread(location_of(f"sqlite:///{path}"), clock, write=True)
    other = sqlite3.connect(path)

    async def pauses_of_writes() -> int:
        before = clock.pauses
        for _ in range(6):
            await turns.run(write)
        return clock.pauses - before

    await pauses_of_writes()
    assert await pauses_of_writes() == 0
    with other:
        write(other)
    assert await pauses_of_writes() > 0
    other.close()
    await turns.close()
