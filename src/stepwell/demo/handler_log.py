"""The handler log: a line when a handler starts and one when it finishes, independent of the journal.

Each line is written by a single append, so several processes can share the file. A handler that SIGKILL interrupted has
a start and no end. The demo also logs each kill and each injected fault.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stepwell import Context

Call: TypeAlias = tuple[str, str, str, int | None]
"""A call of a handler: run, `do` or `undo`, step, iteration."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the log: at `at` (seconds since 1970), in process `pid`, a call `started`, `finished` or `raised`.

    `event` is `killed` if the demo killed process `pid`, and `fault` if it injected the fault named by `title`; the
    other fields are empty then.
    """

    at: float
    pid: int
    event: str
    run_id: str = ""
    phase: str = ""
    step: str = ""
    iteration: int | None = None
    files: int = 0
    bytes: int = 0
    title: str = ""

    @property
    def call(self) -> Call:
        """The call that this line is about."""
        return self.run_id, self.phase, self.step, self.iteration

    def as_text(self) -> str:
        """The line as it is written to the file."""
        iteration = "-" if self.iteration is None else str(self.iteration)
        fields = (f"{self.at:.6f}", self.pid, self.event, self.run_id or "-", self.phase or "-", self.step or "-")
        return " ".join(map(str, (*fields, iteration, self.files, self.bytes, self.title))) + "\n"

    @classmethod
    def read(cls, text: str) -> LogLine:
        """Parses a line; raises ValueError if it is not one of this log."""
        at, pid, event, run_id, phase, step, iteration, files, size, title = text.split(" ", 9)
        if event not in ("started", "finished", "raised", "killed", "fault"):
            raise ValueError(f"unknown event: {event}")
        where = int(iteration) if iteration != "-" else None
        return cls(float(at), int(pid), event, run_id, phase, step, where, int(files), int(size), title)


@dataclass(slots=True)
class CallCounts:
    """What a handler reports to the log when it finishes."""

    files: int = 0
    bytes: int = 0


class HandlerLog:
    """Writes the log, from any thread of any process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def log_call(self, ctx: Context, title: str, phase: str = "do") -> Iterator[CallCounts]:
        """Logs the start and the end of a handler whose work is the block."""
        counts = CallCounts()
        self._append(_line("started", ctx, phase, title, counts))
        try:
            yield counts
        except BaseException:
            self._append(_line("raised", ctx, phase, title, counts))
            raise
        self._append(_line("finished", ctx, phase, title, counts))

    def log_kill(self, pid: int) -> None:
        """Logs that process `pid` was killed."""
        self._append(LogLine(time.time(), pid, "killed"))

    def log_fault(self, name: str) -> None:
        """Logs an injected fault."""
        self._append(LogLine(time.time(), 0, "fault", title=name))

    def _append(self, line: LogLine) -> None:
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, line.as_text().encode())
        finally:
            os.close(file)


def _line(event: str, ctx: Context, phase: str, title: str, counts: CallCounts) -> LogLine:
    return LogLine(
        time.time(), os.getpid(), event, ctx.run_id, phase, ctx.step, ctx.iteration, counts.files, counts.bytes, title
    )


class LogReader:
    """Reads the log while it grows, or all at once; `lines` holds all lines read so far, in the order of the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._open: dict[tuple[int, Call], LogLine] = {}
        self._finished: dict[Call, LogLine] = {}
        self._first_finishes: dict[int, float] = {}
        self._first: dict[Call, LogLine] = {}
        self.lines: list[LogLine] = []

    def read(self) -> list[LogLine]:
        """Reads and returns the lines written since the last call; raises ValueError for an invalid line."""
        new = [LogLine.read(text) for text in self._new_lines()]
        for line in new:
            if line.event == "started":
                self._open[line.pid, line.call] = line
                self._first.setdefault(line.call, line)
            else:
                self._open.pop((line.pid, line.call), None)
            if line.event == "finished":
                self._finished[line.call] = line
                self._first_finishes.setdefault(line.pid, line.at)
        self.lines += new
        return new

    def open_calls(self, pid: int) -> list[LogLine]:
        """The calls that process `pid` has started and not finished, oldest first."""
        return [line for (opener, _), line in self._open.items() if opener == pid]

    def is_repeated(self, line: LogLine) -> bool:
        """Whether this line starts a call that was started before."""
        return self._first.get(line.call, line) is not line

    def first_finish(self, pid: int) -> float | None:
        """When process `pid` first finished a handler; None if it has not yet."""
        return self._first_finishes.get(pid)

    def runs_past(self, step: str) -> set[str]:
        """The runs in which this step has finished."""
        return {run_id for run_id, _, finished, _ in self._finished if finished == step}

    def hashed_totals(self) -> tuple[int, int]:
        """The files and bytes that finished handlers reported, each call counted once."""
        finished = self._finished.values()
        return sum(line.files for line in finished), sum(line.bytes for line in finished)

    def _new_lines(self) -> list[str]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.decode().split("\n")[:-1]
