"""Standard streams that may be unusable: closed, on a full disk, or a pipe whose reader has exited.

Output that cannot be written is dropped and reported once, by the exit code. So a handler that prints never fails, and
a worker never stops, because the terminal was closed or `head` has exited.
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
"""The number of the signal on every system; Python ignores the signal and raises BrokenPipeError."""
_STDIN, _STDOUT, _STDERR = 0, 1, 2


class Kept(io.FileIO):
    """Writes to a descriptor and never raises; `lost` is the first error that prevented a write."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.lost: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write the data, or drop it."""
        try:
            while (
                written := super().write(data)
            ) is None:  # A process that shares the descriptor may have made it non-blocking.
                select.select([], [self], [])
        except OSError as error:
            self.lost = self.lost or error
            return memoryview(data).nbytes
        return written


class Streams:
    """The standard streams of this process, made usable."""

    def __init__(self) -> None:
        self._stdout: Kept | None = None

    def repair(self) -> None:
        """Repair the process's own streams; leave streams that a caller has replaced, as tests do."""
        # A closed descriptor below 3 would be reused for the next file, which could be the store, and print() would
        # write into it. Standard output gets a descriptor that refuses writes, so that lost output is detected.
        for descriptor, flags in ((_STDIN, os.O_RDONLY), (_STDOUT, os.O_RDONLY), (_STDERR, os.O_WRONLY)):
            if not _is_open(descriptor):
                _open_null(descriptor, flags)
        if sys.stdin is None:
            sys.stdin = open(_STDIN, encoding="utf-8", closefd=False)  # noqa: SIM115  stdin stays open
        if _is_own(sys.stdout, _STDOUT):
            sys.stdout, self._stdout = _kept(sys.stdout, _STDOUT)
        if _is_own(sys.stderr, _STDERR):
            sys.stderr, _ = _kept(sys.stderr, _STDERR)

    def lost(self) -> OSError | None:
        """The error that prevented a write to stdout, or None."""
        if self._stdout is None:
            return None
        sys.stdout.flush()
        return self._stdout.lost

    def forgive(self) -> None:
        """Ignore lost output from now on: it belongs to handlers, and the exit code does not report it."""
        self._stdout = None


STREAMS = Streams()
"""The standard streams of this process."""


def is_broken_pipe(error: OSError) -> bool:
    """Whether the reader has exited, as `head` does, which is not an error."""
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
    """Whether the stream is the process's own, or is None because its descriptor was closed."""
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
