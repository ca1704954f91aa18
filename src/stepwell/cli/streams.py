"""The standard streams as a shell may give them: closed, on a full disk, or a pipe that nobody reads any more.

What is printed and cannot be written is dropped, and told once, by the exit code. So a handler that prints never fails,
and a worker never stops, because the terminal was closed or `head` has seen enough.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SIGPIPE = 13
"""Its number everywhere; Python ignores the signal, and is told by an error."""
_STDIN, _STDOUT, _STDERR = 0, 1, 2


class Kept(io.FileIO):
    """A stream's descriptor; `lost` is the first error that kept something from being written."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.lost: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write it, or drop it."""
        try:
            while (written := super().write(data)) is None:  # set to non-blocking by a process that shares it
                select.select([], [self], [])
        except OSError as error:
            self.lost = self.lost or error
            return memoryview(data).nbytes
        return written


class Streams:
    """The standard streams of this process, made fit to be used."""

    def __init__(self) -> None:
        self._stdout: Kept | None = None

    def repair(self) -> None:
        """Put in order what is this process's own; where a caller has put something else, as tests do, leave it."""
        # What a descriptor below 3 is opened for next must not be a store's file: something may print into it.
        # Standard output gets one that refuses writes, so that what is printed there is known to be lost.
        for descriptor, flags in ((_STDIN, os.O_RDONLY), (_STDOUT, os.O_RDONLY), (_STDERR, os.O_WRONLY)):
            if not _is_open(descriptor):
                _open_null(descriptor, flags)
        if sys.stdin is None:
            sys.stdin = open(_STDIN, encoding="utf-8", closefd=False)  # noqa: SIM115  it stays open, as always
        if _is_own(sys.stdout, _STDOUT):
            sys.stdout, self._stdout = _kept(sys.stdout, _STDOUT)
        if _is_own(sys.stderr, _STDERR):
            sys.stderr, _ = _kept(sys.stderr, _STDERR)

    def lost(self) -> OSError | None:
        """What kept something from being written on stdout, if anything did."""
        if self._stdout is None:
            return None
        sys.stdout.flush()
        return self._stdout.lost

    def forgive(self) -> None:
        """Take what is printed for handlers' own, which no exit code tells of."""
        self._stdout = None


STREAMS = Streams()
"""There is one of each in a process."""


def is_broken_pipe(error: OSError) -> bool:
    """Whether the reader has left, as `head` does, which is no error of anybody's."""
    return error.errno == errno.EPIPE


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _open_null(descriptor: int, flags: int) -> None:
    opened = os.open(os.devnull, flags)
    if opened == descriptor:
        os.set_inheritable(opened, True)  # noqa: FBT003  its signature
    else:
        os.dup2(opened, descriptor, inheritable=True)
        os.close(opened)


def _is_own(stream: TextIO | None, descriptor: int) -> bool:
    """Whether it is the process's own stream, or there is none since its descriptor was closed."""
    if stream is None:
        return True
    try:
        return stream.fileno() == descriptor
    except (OSError, ValueError, AttributeError):
        return False


def _kept(stream: TextIO | None, descriptor: int) -> tuple[TextIO, Kept]:
    raw = Kept(descriptor)
    if stream is not None:
        stream.flush()
    kept = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(stream, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=descriptor == _STDERR or raw.isatty(),
    )
    return kept, raw
