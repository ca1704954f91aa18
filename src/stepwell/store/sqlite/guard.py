"""What this process holds of a database file while it has connections to it, whatever else is done to the file in it.

SQLite's locks are POSIX record locks, and any `close` of the file, or of its `-shm`, in the process drops those that
the process has there: a handler that reads, hashes or copies them is enough. Then another process that leaves takes
itself for the last one, writes the log back and removes it, and what is committed afterwards goes to a log that has no
name any more. Or it takes itself for the first one and creates the `-shm` again under processes that have it mapped; or
it writes at the same time. Three locks on open file descriptions, which no other `close` drops, hold that off:

* a shared one on the bytes that SQLite locks exclusively before it removes the log (SHARED, of the database file);
* a shared one on the byte by which SQLite knows whether any process has the `-shm` open (its "dead man's switch");
* an exclusive one on a byte of our own, for as long as a write transaction, its checkpoint included, or the close of
  the last connection takes. So writers of stepwell shut each other out even when SQLite's own locks are gone, and of
  those that leave together the last one finds itself alone, and removes the log.

The descriptors are the process's, one set for each database, and are closed only after the last connection is: their
own `close` would drop locks as well. If another connection still has locks on the file then, who may be this process
with a connection of a user's, they stay open until the database is opened again.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, NamedTuple

from stepwell.store.sqlite.locks import SUPPORTED, Span, is_locked, keep, let_go, lock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PENDING = 0x40000000
_SHARED = Span(_PENDING + 2, 510)
_SWITCH = Span(128)
_WRITING = Span(_PENDING + 1024)
"""SQLite locks 512 bytes from `_PENDING` on, and keeps no data there. Locks need no bytes that exist."""
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_CLOSE_WITHIN_SECONDS = 2.0
_PAUSE_SECONDS = 0.0005


class Identity(NamedTuple):
    """Which file it is, whatever its name."""

    device: int
    inode: int


def identity_of(path: str | Path) -> Identity | None:
    """The file that has this name now, if any that can be seen."""
    try:
        found = os.stat(path)  # noqa: PTH116  a commit is acknowledged after two of these
    except OSError:
        return None
    return Identity(found.st_dev, found.st_ino)


class Guard:
    """The descriptors and locks of one database file in this process."""

    def __init__(self, identity: Identity, descriptor: int, *, writable: bool) -> None:
        self.identity = identity
        self.users = 0
        self._descriptor = descriptor
        self._writable = writable
        self._index: int | None = None
        self._index_identity: Identity | None = None
        self._spare: list[int] = []
        self._writer = threading.Lock()

    def hold(self, index: str) -> None:
        """Takes the shared locks, once a connection is open; again for each connection, since the index may be new."""
        if lock(self._descriptor, _SHARED.shared) is None:
            return
        identity = identity_of(index)
        if identity is None:
            return
        if identity != self._index_identity:
            with contextlib.suppress(OSError):
                opened = keep(os.open(index, os.O_RDONLY | _FLAGS))
                if self._index is not None:
                    self._spare.append(self._index)
                self._index, self._index_identity = opened, identity
        if self._index is not None:
            lock(self._index, _SWITCH.shared)

    def enter(self) -> bool:
        """Begins to write, as the only one of all processes; False while another does."""
        if not self._writer.acquire(blocking=False):
            return False
        if self._writable and lock(self._descriptor, _WRITING.exclusive) is False:
            self._writer.release()
            return False
        return True

    def leave(self) -> None:
        """Ends what `enter` began."""
        if self._writable:
            lock(self._descriptor, _WRITING.free)
        self._writer.release()

    def free(self) -> None:
        """Frees the shared locks, so that the last connection can tell that it is the last."""
        lock(self._descriptor, _SHARED.free)
        if self._index is not None:
            lock(self._index, _SWITCH.free)

    def is_needed(self) -> bool:
        """Whether any process has locks on the file: perhaps this process, whose locks a `close` would drop."""
        return bool(is_locked(self._descriptor, _SHARED))

    def add(self, descriptor: int) -> None:
        """Keeps one more descriptor of this file open for as long as the others."""
        self._spare.append(descriptor)

    def close(self) -> None:
        """Closes every descriptor."""
        for descriptor in (self._descriptor, *self._spare, *([] if self._index is None else [self._index])):
            let_go(descriptor)


def join(path: Path, mode: int | None) -> Guard | None:
    """The guard of the file, for one more connection; None where SQLite itself is to say what is wrong with the file.

    With a `mode` a file that is not there is created, with exactly these permissions. Without locks on open file
    descriptions there is nothing else to do.
    """
    with _state.lock:
        _sweep()
        identity = identity_of(path)
        guard = None if identity is None else _state.guards.get(identity)
        if guard is None:
            opened = (_create(path, mode) if identity is None and mode is not None else None) or _open(path)
            if opened is None:
                return None
            descriptor, writable = opened
            found = os.fstat(descriptor)
            identity = Identity(found.st_dev, found.st_ino)
            guard = _state.guards.get(identity)
            if guard is None:
                guard = _state.guards[identity] = Guard(identity, descriptor, writable=writable)
            else:  # it got this name a moment ago: to close it now would drop the locks of the others
                guard.add(descriptor)
        guard.users += 1
        return guard


def hold(guard: Guard, index: str) -> None:
    """Takes the guard's shared locks for a connection that is open."""
    with _state.lock:
        guard.hold(index)


def part(guard: Guard, close: Callable[[], None], pause: Callable[[float], None], *, is_moved: bool) -> None:
    """Closes a connection, and with the last one the guard.

    The last one frees the shared locks first, so that SQLite finds itself alone and removes its log; not so when the
    file or the log was replaced: then nothing of ours may be written back.
    """
    with _state.lock:
        guard.users -= 1
        if guard.users > 0 or is_moved:
            close()
        else:
            entered = _enter_within(guard, _CLOSE_WITHIN_SECONDS, pause)
            try:
                guard.free()
                close()
            finally:
                if entered:
                    guard.leave()
        if guard.users == 0:
            guard.free()
        _sweep()


def _sweep() -> None:
    """Closes the descriptors of files that are used no more."""
    for guard in [one for one in _state.guards.values() if one.users == 0]:
        if not guard.is_needed():
            del _state.guards[guard.identity]
            guard.close()


def _enter_within(guard: Guard, seconds: float, pause: Callable[[float], None]) -> bool:
    waited = 0.0
    while not guard.enter():
        if waited >= seconds:
            return False
        pause(_PAUSE_SECONDS)
        waited += _PAUSE_SECONDS
    return True


def _create(path: Path, mode: int) -> tuple[int, bool] | None:
    """A descriptor of a new file, and that it can be written; None if that fails, or if it is there already."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, mode)
    except OSError:
        return None
    with contextlib.suppress(OSError):  # a file system without permissions
        os.fchmod(descriptor, mode)
    if SUPPORTED:
        return keep(descriptor), True
    os.close(descriptor)
    return None


def _open(path: Path) -> tuple[int, bool] | None:
    """A descriptor of a file that is there, and whether it can be written; None where it has no use, or cannot be."""
    if not SUPPORTED or not os.path.isfile(path):  # noqa: PTH113  pathlib raises where a folder is shut
        return None
    for access in (os.O_RDWR, os.O_RDONLY):
        with contextlib.suppress(OSError):
            return keep(os.open(path, access | _FLAGS)), access == os.O_RDWR
    return None


class _State:
    """The guards of this process, by file, and the lock under which they change."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.guards: dict[Identity, Guard] = {}


def _forget() -> None:
    _state.lock = threading.Lock()
    _state.guards = {}


_state = _State()
"""Locks belong to the process, so this does too; a forked child, whose copies are closed, begins without."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
