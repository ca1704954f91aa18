"""Locks on files that a process keeps until it ends or lets them go, and workers' lock files, which are made of them.

A POSIX record lock belongs to the process, and *any* `close` of the file in the process drops it: a handler that reads
or copies the file would do. An open-file-description lock (Linux) belongs to the descriptor, and nothing that is done
to other descriptors of the file touches it. It lives as long as any copy of the descriptor, so a forked child that
outlives its parent would keep it: children close their copies as soon as they are forked (`os.register_at_fork`), and
programs that they execute never get one (`O_CLOEXEC`). A child forked by a library past Python keeps it until it ends.

Where the system has no such locks (macOS, by what Python offers there) no file is locked: the beat alone decides.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import struct
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

fcntl: Any
try:
    fcntl = importlib.import_module("fcntl")
except ImportError:  # not a POSIX system
    fcntl = None
_SET = getattr(fcntl, "F_OFD_SETLK", None) if sys.platform == "linux" else None
_GET = getattr(fcntl, "F_OFD_GETLK", None) if sys.platform == "linux" else None
SUPPORTED = _SET is not None and _GET is not None
"""Whether there are locks on open file descriptions."""
_FLOCK = struct.Struct("hhqqi")
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}
"""What a kernel or a file system answers that knows no such locks."""


class Span:
    """Bytes of a file that are locked together; they need not exist."""

    def __init__(self, start: int, length: int = 1) -> None:
        if fcntl is not None:
            self.shared: bytes = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, start, length, 0)
            self.exclusive: bytes = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
            self.free: bytes = _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, start, length, 0)


def lock(descriptor: int, what: bytes) -> bool | None:
    """Sets or frees a lock of this descriptor: False while another has it, None where there are no such locks."""
    if not SUPPORTED:
        return None
    try:
        fcntl.fcntl(descriptor, _SET, what)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return None
        return False
    return True


def is_locked(descriptor: int, span: Span) -> bool | None:
    """Whether another process has any lock on these bytes, this process too; None where that cannot be known."""
    if not SUPPORTED:
        return None
    try:
        found = fcntl.fcntl(descriptor, _GET, span.exclusive)
    except OSError:
        return None
    return bool(_FLOCK.unpack(found[: _FLOCK.size])[0] != fcntl.F_UNLCK)


def keep(descriptor: int) -> int:
    """Lets forked children close their copies of a descriptor that has locks."""
    _kept.add(descriptor)
    return descriptor


def let_go(descriptor: int) -> None:
    """Closes a descriptor that was kept, and frees what it has locked."""
    _kept.discard(descriptor)
    os.close(descriptor)


def _close_inherited() -> None:
    while _kept:
        with contextlib.suppress(OSError):
            os.close(_kept.pop())


_kept: set[int] = set()
"""The descriptors of this process that have locks. A fork copies them all, so this is the process's, not a store's."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)
_WHOLE = Span(0, 0)


class LockFile:
    """The file that a living worker holds locked."""

    def __init__(self, database: Path, worker_id: str, mode: int) -> None:
        self._path = database.with_name(f"{database.name}-worker-{worker_id}")
        self._mode = mode
        self._descriptor: int | None = None
        self._process = os.getpid()

    def hold(self) -> None:
        """Creates the file and locks it until `release` or death."""
        if not SUPPORTED:
            return
        self._descriptor = keep(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self._mode))
        with contextlib.suppress(OSError):  # a file system without permissions
            os.fchmod(self._descriptor, self._mode)
        if not lock(self._descriptor, _WHOLE.exclusive):
            self.release()  # a file without a lock would be that of a dead worker

    def release(self) -> None:
        """Removes the file and frees the lock; in a forked child it does nothing, since the worker is its parent's."""
        if self._descriptor is not None and self._process == os.getpid():
            self.remove()
            let_go(self._descriptor)
            self._descriptor = None

    def remove(self) -> None:
        """Removes the file alone, if that can be done; without its lock it says nothing."""
        with contextlib.suppress(OSError):
            self._path.unlink()

    def is_free(self) -> bool:
        """Whether the process that held it is certainly gone; False when in doubt."""
        if not SUPPORTED:
            return False
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return is_locked(descriptor, _WHOLE) is False
        finally:
            os.close(descriptor)
