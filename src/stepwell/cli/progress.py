"""The progress of `run`: a line for each node at a terminal, else a line for each event; nothing with JSON."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Group
from rich.live import Live
from rich.text import Text

from stepwell import RunCanceledError, RunFailedError
from stepwell.cli import text
from stepwell.cli.outline import node_lines, waiting_for
from stepwell.cli.output import console, has_marks, remark
from stepwell.cli.views import ENDED, label, outcome
from stepwell.core.journal import CHOICE, UNDOING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from stepwell import Durable, Entry, RunSnapshot
    from stepwell.cli.outline import NodeLine
    from stepwell.workflow.nodes import Node

REFRESH_HZ = 8
POLL_SECONDS = 0.125
READING_SHARE = 0.1
"""Reading takes at most this share of the time, however long the journal is."""

MARKS = {
    "pending": ("·", ".", "dim"),
    "running": ("●", "*", "cyan"),
    "waiting": ("…", "~", "yellow"),
    "done": ("✓", "+", "green"),
    "skipped": ("-", "-", "dim"),
    "failed": ("✗", "x", "red"),
    "compensated": ("↶", "<", "magenta"),
    "canceled": ("■", "!", "dim"),
}
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Progress(Protocol):
    """Shows the progress of a run while entered."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...

    def show(self, run: RunSnapshot, entries: Sequence[Entry]) -> None:
        """Show the current state of the run."""


class Silence:
    """Shows nothing: JSON output contains only the end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def show(self, run: RunSnapshot, entries: Sequence[Entry]) -> None:
        """Do nothing."""


class Lines:
    """Prints a line for each new journal entry and each new wait."""

    def __init__(self) -> None:
        self._seen = 0
        self._wait: object = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def show(self, run: RunSnapshot, entries: Sequence[Entry]) -> None:
        """Print the new entries and the new wait."""
        for entry in entries[self._seen :]:
            prefix = "compensate " if entry.kind == UNDOING else "choose " if entry.kind == CHOICE else ""
            said = [f"{prefix}{label(entry)}", entry.status, f"({text.span(entry.finished_at - entry.started_at)})"]
            if entry.status != "completed":
                said += [f"attempt {entry.attempt}: {outcome(entry)}"] if entry.error is not None else []
            remark("  ".join(said))
        self._seen = len(entries)
        wait = (run.current_step, run.awaiting_signals, run.wake_at)
        words = waiting_for(run, entries, text.now())
        if words and wait != self._wait and not (entries and entries[-1].status == "retrying"):
            remark(f"{run.current_node}  {words}")
            for signal in run.awaiting_signals:
                remark(f"  stepwell signal {run.run_id} {signal} DATA")
        self._wait = wait


class LiveView:
    """Redraws a line for each node on stderr, which must be a terminal."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._last: tuple[RunSnapshot, Sequence[Entry]] | None = None
        self._frame = 0
        self._console = console(sys.stderr)
        self._in_ascii = not has_marks(sys.stderr)
        self._live = Live(
            console=self._console,
            get_renderable=self._drawn,
            refresh_per_second=REFRESH_HZ,
            # Output of handlers is printed above the lines. If stdout is not a terminal, it must stay on stdout.
            redirect_stdout=sys.stdout.isatty(),
        )

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.stop()

    def show(self, run: RunSnapshot, entries: Sequence[Entry]) -> None:
        """Draw this state from now on."""
        self._last = (run, entries)

    def _drawn(self) -> Group:
        last = self._last
        if last is None:
            return Group()
        self._frame += 1
        run, entries = last
        nodes = node_lines(self._nodes, run, entries, text.now())
        lines = [self._node_line(node, max(len(each.name) for each in nodes)) for node in nodes]
        lines = _window(lines, min(run.current_step, len(lines)), self._console.size.height - 4)
        if run.status not in ENDED:
            answers = [f"  stepwell signal {run.run_id} {signal} DATA" for signal in run.awaiting_signals]
            lines += [Text(answer, style="dim") for answer in answers]
        for line in lines:
            line.truncate(self._console.width, overflow="ellipsis")
            line.no_wrap = True
        return Group(*lines)

    def _node_line(self, node: NodeLine, broad: int) -> Text:
        mark, ascii_mark, style = MARKS[node.state]
        if self._in_ascii:
            mark = ascii_mark
        elif node.state == "running":
            mark = SPINNER[self._frame % len(SPINNER)]
        took = "" if node.took is None else text.span(node.took)
        name_style = "dim" if node.state in ("pending", "skipped") else ""
        note_style = style if node.state in ("failed", "waiting") else "dim"
        line = Text.assemble("  ", (mark, style), " ", (node.name.ljust(broad), name_style))
        return line.append(f"  {took:>9}  ", style="dim").append(node.note, style=note_style)


async def follow(app: Durable, run_id: str, progress: Progress) -> RunSnapshot:
    """Show the run until it has ended; return its last snapshot."""
    loop = asyncio.get_running_loop()
    entries: list[Entry] = []
    before: RunSnapshot | None = None
    ended = asyncio.ensure_future(_ended(app, run_id))
    try:
        while True:
            began = loop.time()
            is_last = ended.done()
            run = await app.status(run_id)
            if before is None or is_last or (run.updated_at, run.status) != (before.updated_at, before.status):
                entries = await app.journal(run_id)
            before = run
            progress.show(run, entries)
            if is_last:
                await ended  # Raises the error that ended the wait, if there was one.
                return run
            cost = loop.time() - began
            await asyncio.wait([ended], timeout=max(POLL_SECONDS, cost / READING_SHARE))
    finally:
        ended.cancel()


async def _ended(app: Durable, run_id: str) -> None:
    try:
        await app.result(run_id)
    except (RunFailedError, RunCanceledError):
        return  # The next snapshot shows it.


def _window(lines: list[Text], current: int, height: int) -> list[Text]:
    """At most `height` lines around the current one, and the number of lines left out."""
    if len(lines) <= max(height, 3):
        return lines
    room = max(height, 3) - 2
    first = min(max(current - room // 2, 0), len(lines) - room)
    above = [Text(f"  … {first} above", style="dim")] if first else []
    below = len(lines) - first - room
    return [*above, *lines[first : first + room], *([Text(f"  … {below} below", style="dim")] if below else [])]
