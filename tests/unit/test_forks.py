"""A fork waits until no thread of its process is inside SQLite, so that the child can use the file."""

from __future__ import annotations

import itertools
import os
import sqlite3
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from stepwell.runtime.system import SystemRuntime
from stepwell.store.sqlite.connection import location_of
from stepwell.store.sqlite.file import FileConnection
from stepwell.store.sqlite.forks import INSIDE_SQLITE
from tests.waiting import PATIENCE, POLL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
WROTE, BUSY, FAILED = 10, 11, 12
MOST_PAUSES = 2_000


def until(condition: Callable[[], object]) -> None:
    """Poll until it holds, without an event loop."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(POLL_SECONDS)


class Writer:
    """A thread that is in the middle of a write transaction until it is let."""

    def __init__(self, file: FileConnection) -> None:
        self._file = file
        self.amid, self._let = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._main)
        self._thread.start()
        assert self.amid.wait(PATIENCE)

    def end(self) -> None:
        """Lets it commit."""
        self._let.set()
        self._thread.join(PATIENCE)

    def _main(self) -> None:
        self._file.run(self._work, write=True)

    def _work(self) -> None:
        self._file.connection.execute("INSERT INTO seen VALUES ('parent')")
        self.amid.set()
        assert self._let.wait(PATIENCE)


def write_in_child(url: str) -> None:  # pragma: no cover  in another process
    """Write on a connection of the child's own, and end the child with what came of it."""
    pauses = itertools.count()

    def busy(seconds: float) -> None:
        if next(pauses) == MOST_PAUSES:
            os._exit(BUSY)
        time.sleep(POLL_SECONDS)  # the parent frees its own lock on the file a moment after its transaction

    try:
        file = FileConnection(location_of(url), busy)
        file.run(lambda: file.connection.execute("INSERT INTO seen VALUES ('child')"), write=True)
    except BaseException as error:  # noqa: BLE001  it is told
        sys.stderr.write(f"{error!r}\n")
        os._exit(FAILED)
    os._exit(WROTE)


def test_a_child_that_is_forked_amid_a_transaction_can_write(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    file = FileConnection(location_of(url), SystemRuntime().pause)
    file.run(lambda: file.connection.execute("CREATE TABLE seen (by TEXT)"), write=True)
    writer = Writer(file)
    codes: list[int] = []

    def fork() -> None:
        child = os.fork()
        if child == 0:  # pragma: no cover  in another process
            write_in_child(url)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    thread = threading.Thread(target=fork)
    thread.start()
    until(lambda: INSIDE_SQLITE._forks or codes)
    writer.end()
    thread.join(PATIENCE)
    assert codes == [WROTE]
    assert sorted(file.run(lambda: file.connection.execute("SELECT by FROM seen").fetchall(), write=False)) == [
        ("child",),
        ("parent",),
    ]
    file.close()


def test_threads_that_come_during_a_fork_wait_for_its_end() -> None:
    entered = threading.Event()
    INSIDE_SQLITE.before_fork()

    def enter() -> None:
        with INSIDE_SQLITE:
            entered.set()

    thread = threading.Thread(target=enter)
    thread.start()
    assert not entered.wait(POLL_SECONDS)
    INSIDE_SQLITE.after_fork()
    assert entered.wait(PATIENCE)
    thread.join(PATIENCE)


def test_a_connection_that_is_closed_or_fails_lets_forks_go_on(tmp_path: Path) -> None:
    file = FileConnection(location_of(f"sqlite:///{tmp_path / 'store.db'}"), SystemRuntime().pause)
    with pytest.raises(sqlite3.OperationalError):
        file.run(lambda: file.connection.execute("SELECT 1 FROM nothing"), write=False)
    file.close()
    assert INSIDE_SQLITE._inside == 0
