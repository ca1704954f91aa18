"""The handlers' own log: a line when a handler begins and one when it ends, whatever the journal says.

Each line is one append of the operating system, so processes share the file, and SIGKILL leaves a handler that was cut
off as a beginning without an end. The demo writes a line for each kill into it, too, and for whatever else it does.
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
"""One piece of work: run, `do` or `undo`, step, iteration."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the log: at `at` (seconds since 1970), in process `pid`, a call `begun`, `ended` or `raised`.

    `word` is `killed` where the demo killed process `pid`, and `disturbed` where it did what `title` says; the rest is
    empty then.
    """

    at: float
    pid: int
    word: str
    run_id: str = ""
    phase: str = ""
    step: str = ""
    iteration: int | None = None
    files: int = 0
    bytes: int = 0
    title: str = ""

    @property
    def call(self) -> Call:
        """The piece of work this line is about."""
        return self.run_id, self.phase, self.step, self.iteration

    def written(self) -> str:
        """The line as it stands in the file."""
        iteration = "-" if self.iteration is None else str(self.iteration)
        words = (f"{self.at:.6f}", self.pid, self.word, self.run_id or "-", self.phase or "-", self.step or "-")
        return " ".join(map(str, (*words, iteration, self.files, self.bytes, self.title))) + "\n"

    @classmethod
    def read(cls, text: str) -> Line:
        """The line that was written; raises ValueError for one that was not."""
        at, pid, word, run_id, phase, step, iteration, files, size, title = text.split(" ", 9)
        if word not in ("begun", "ended", "raised", "killed", "disturbed"):
            raise ValueError(f"no such word: {word}")
        where = int(iteration) if iteration != "-" else None
        return cls(float(at), int(pid), word, run_id, phase, step, where, int(files), int(size), title)


@dataclass(slots=True)
class Work:
    """What a handler tells the log of its work when it ends."""

    files: int = 0
    bytes: int = 0


class HandlersLog:
    """The log as handlers write it, from any thread of any process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def handling(self, ctx: Context, title: str, phase: str = "do") -> Iterator[Work]:
        """Logs the beginning and the end of the handler's work inside the block."""
        work = Work()
        self._append(_line("begun", ctx, phase, title, work))
        try:
            yield work
        except BaseException:
            self._append(_line("raised", ctx, phase, title, work))
            raise
        self._append(_line("ended", ctx, phase, title, work))

    def killed(self, pid: int) -> None:
        """Logs that process `pid` was killed."""
        self._append(Line(time.time(), pid, "killed"))

    def disturbed(self, name: str) -> None:
        """Logs that something else was done to the demo."""
        self._append(Line(time.time(), 0, "disturbed", title=name))

    def _append(self, line: Line) -> None:
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, line.written().encode())
        finally:
            os.close(file)


def _line(word: str, ctx: Context, phase: str, title: str, work: Work) -> Line:
    return Line(
        time.time(), os.getpid(), word, ctx.run_id, phase, ctx.step, ctx.iteration, work.files, work.bytes, title
    )


class LogReader:
    """The log as the demo reads it: as it grows, or all at once. `lines` are all lines so far, in the file's order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._open: dict[tuple[int, Call], Line] = {}
        self._ended: dict[Call, Line] = {}
        self._first_ends: dict[int, float] = {}
        self._first: dict[Call, Line] = {}
        self.lines: list[Line] = []

    def read(self) -> list[Line]:
        """The lines that were written since the last time; raises ValueError for a line that is none."""
        new = [Line.read(text) for text in self._new_lines()]
        for line in new:
            if line.word == "begun":
                self._open[line.pid, line.call] = line
                self._first.setdefault(line.call, line)
            else:
                self._open.pop((line.pid, line.call), None)
            if line.word == "ended":
                self._ended[line.call] = line
                self._first_ends.setdefault(line.pid, line.at)
        self.lines += new
        return new

    def open_calls(self, pid: int) -> list[Line]:
        """The beginnings in process `pid` that have no end so far, the oldest first."""
        return [line for (opener, _), line in self._open.items() if opener == pid]

    def begun_before(self, line: Line) -> bool:
        """Whether this beginning is not the first of its work."""
        return self._first.get(line.call, line) is not line

    def first_end(self, pid: int) -> float | None:
        """When process `pid` first ended a handler; None if it has not yet."""
        return self._first_ends.get(pid)

    def ended_runs(self, step: str) -> set[str]:
        """The runs in which this step has ended."""
        return {run_id for run_id, _, ended, _ in self._ended if ended == step}

    def hashed(self) -> tuple[int, int]:
        """Files and bytes that ended handlers have told of, each piece of work counted once."""
        ended = self._ended.values()
        return sum(line.files for line in ended), sum(line.bytes for line in ended)

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
