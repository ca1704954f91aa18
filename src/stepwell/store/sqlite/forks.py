"""Holds off forks of this process while one of its threads is inside SQLite.

SQLite keeps, in the memory of the process, which locks its connections have on a file, and a fork copies that memory as
it stands. A child that is forked in the middle of a transaction is told by its own SQLite for ever that the file is
locked, or waits for a mutex whose thread it does not have: of 40 children of a busy process 24 could not write. Between
transactions no lock is held that this memory knows of, and the child can open connections of its own. The locks that
its SQLite wrongly believes to have are those that the guard holds as well.
"""

from __future__ import annotations

import os
import threading

_LONGEST_SECONDS = 10.0
"""A fork is held off for so long at most: better a child that cannot use the store than a fork that never happens."""


class _InsideSqlite:
    """Entered by each thread for as long as it is inside SQLite; not entered twice by one."""

    def __init__(self) -> None:
        self.begin_again()

    def begin_again(self) -> None:
        """In a forked child, which has none of its parent's other threads."""
        self._changed = threading.Condition()
        self._inside = 0
        self._forks = 0

    def __enter__(self) -> None:
        with self._changed:
            while self._forks:
                self._changed.wait()
            self._inside += 1

    def __exit__(self, *raised: object) -> None:
        with self._changed:
            self._inside -= 1
            if self._forks:
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Lets no thread in, and returns once all are out."""
        with self._changed:
            self._forks += 1
            self._changed.wait_for(lambda: self._inside == 0, _LONGEST_SECONDS)

    def after_fork(self) -> None:
        """Lets threads in again."""
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()


INSIDE_SQLITE = _InsideSqlite()
"""SQLite's memory is the process's, so this is, too."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=INSIDE_SQLITE.before_fork,
        after_in_parent=INSIDE_SQLITE.after_fork,
        after_in_child=INSIDE_SQLITE.begin_again,
    )
