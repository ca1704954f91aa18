"""The demo's output for people: progress while it runs, and the result; silent for JSON."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections import Counter
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stepwell.cli.output import has_marks
from stepwell.cli.text import one_line, span
from stepwell.demo.findings import BAD
from stepwell.demo.verification import Artifacts, Check, faults_of, kills_of, ran_again
from stepwell.demo.workflows import SIGNAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from stepwell import RunSnapshot
    from stepwell.demo.config import DemoConfig, Fault
    from stepwell.demo.driver import Progress
    from stepwell.demo.handler_log import LogLine

_ROWS_SHOWN = 8
_BAD_SHOWN = 8
_INTERRUPTED_SHOWN = 3
_PROBLEMS_SHOWN = 5
_TITLE_WIDTH = 34
_MEGABYTE = 1_000_000
_STYLES = {"ok": "green", "altered": "red", "missing": "red", "unreadable": "yellow", "unrecorded": "dim"}


class TerminalDisplay:
    """Shows the demo at a terminal; in a file, only kills, faults and the result are written."""

    def __init__(self, *, quiet: bool, keeps_store: bool) -> None:
        self._keeps_store = keeps_store
        self.console: Console = Console(quiet=quiet, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._live: Live | None = None
        self._good, self._bad = ("✓", "✗") if has_marks(sys.stdout) else ("+", "x")

    def show_introduction(self, packages: int, config: DemoConfig, faults: Sequence[Fault]) -> None:
        """Explains what the demo will do."""
        one = Text.assemble(
            (f"{packages} Python packages", "bold"), " are installed here. One run audits each of them:"
        )
        two = "it hashes every file and compares it with the package's RECORD."
        killed, times = ("killed", "bold red"), _times(config.kills)
        three = Text.assemble("Meanwhile the worker process will be ", killed, f" with SIGKILL {times}.")
        if config.workers > 1:
            many = f"{config.workers} worker processes share the work. {times.capitalize()}, one of them will be "
            three = Text.assemble(many, killed, " with SIGKILL.")
        announcements = [fault.announcement for fault in faults]
        self._lines(one, two, *([three] if config.kills else []), *announcements, "")

    @contextmanager
    def live_progress(self) -> Iterator[None]:
        """Shows live progress while inside the block, if the output is a terminal."""
        self._start_live()
        try:
            yield
        finally:
            self._stop_live()

    def show_progress(self, progress: Progress) -> None:
        """Shows the progress, if the output is a terminal."""
        if self._live:
            self._live.update(_progress_table(progress), refresh=True)

    def show_kill(self, worker: int, pid: int, interrupted: list[LogLine]) -> None:
        """Reports that a worker was killed, and what it was doing."""
        in_flight = f"with {_count(len(interrupted), 'handler')} in flight"
        doing = in_flight if interrupted else "between two handlers; will be repeated"
        self._lines(Text.assemble((f"{self._bad} ", "bold red"), f"worker {worker} (pid {pid}) killed {doing}"))

    def show_fault(self, name: str, in_flight: int) -> None:
        """Reports that a fault was injected."""
        doing = f"with {_count(in_flight, 'handler')} in flight"
        self._lines(Text.assemble((f"{self._bad} ", "bold red"), f"{name} crashed and restarted {doing}"))

    def ask_to_accept(self, snapshot: RunSnapshot, report: dict[str, Any]) -> bool:
        """Asks whether a bad report is accepted; an interrupted prompt counts as no."""
        self._stop_live()
        package = report["package"]
        self._lines(
            "",
            Text.assemble(
                (f"{package['name']} {package['version']}", "bold"), f" is {report['verdict']}: ", _names(report)
            ),
        )
        self._lines(
            Text(f"Run {snapshot.run_id} waits for the signal {SIGNAL}, from here or from `stepwell signal`.", "dim")
        )
        try:
            return click.confirm("Accept it as it is?", default=False, err=self.console.stderr)
        except click.Abort:
            self._lines("")
            return False
        finally:
            self._start_live()

    @contextmanager
    def status(self, text: str) -> Iterator[None]:
        """Shows `text` while inside the block, if the output is a terminal."""
        if not self.console.is_terminal:
            yield
            return
        with self.console.status(text):
            yield

    def show_result(self, artifacts: Artifacts, checks: list[Check], seconds: float | None) -> None:
        """Shows the findings, the kills, the checks, and commands for a closer look."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold cyan", no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row("Audited", _audited(artifacts, seconds))
        table.add_row("Killed", _killed(artifacts))
        table.add_row("Checked", _checked(checks, good=self._good, bad=self._bad))
        self.console.print()
        self.console.print(table, soft_wrap=False)
        if self._keeps_store:
            self._lines(Text("Next commands", "bold cyan"), *(f"  {line}" for line in _next_commands(artifacts)))

    def show_stopped(self, url: str) -> None:
        """Says where an interrupted demo left its runs."""
        self._lines(f"Stopped. The runs are in {url}." if self._keeps_store else "Stopped.")

    def _start_live(self) -> None:
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()

    def _stop_live(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def _lines(self, *lines: Text | str) -> None:
        for line in lines:
            self.console.print(line)


def _progress_table(progress: Progress) -> RenderableType:
    head = Table.grid(padding=(0, 2))
    head.add_column(style="cyan", no_wrap=True)
    head.add_column(width=40, no_wrap=True)
    head.add_column(justify="right", no_wrap=True)
    bar = ProgressBar(total=progress.packages, completed=progress.audited, width=40)
    head.add_row("packages", bar, f"{progress.audited} of {progress.packages}")
    head.add_row("hashed", f"{progress.files:,} files, {_size(progress.bytes)}", f"{progress.seconds:.1f} s")
    for number, pid, in_flight in progress.workers:
        doing = f"{_count(in_flight, 'handler')} in flight" if in_flight else "starting"
        head.add_row(f"worker {number}", f"pid {pid}, {doing}")
    rows = Table.grid(padding=(0, 2))
    rows.add_column(width=8)
    rows.add_column(width=_TITLE_WIDTH, no_wrap=True, overflow="ellipsis")
    rows.add_column(width=12, no_wrap=True)
    rows.add_column(style="bold yellow", no_wrap=True)
    for line in progress.in_flight[:_ROWS_SHOWN]:
        rows.add_row("", one_line(line.title), _step(line), "again" if line in progress.repeated else "")
    blank = [Text("")] * max(_ROWS_SHOWN - len(progress.in_flight), 0)
    return Group(head, rows, *blank)


def _audited(artifacts: Artifacts, seconds: float | None) -> RenderableType:
    reports = list(artifacts.reports.values())
    files, size = (sum(report[name] for report in reports) for name in ("files", "bytes"))
    took = f" in {span(timedelta(seconds=seconds))}" if seconds is not None else ""
    verdicts = Counter(report["verdict"] for report in reports)
    words = [Text(f"{verdicts[word]} {word}", style) for word, style in _STYLES.items() if verdicts[word]]
    bad = [(run_id, report) for run_id, report in artifacts.reports.items() if report["verdict"] in BAD]
    lines = [
        Text(f"{_count(len(reports), 'package')}, {files:,} files, {_size(size)}{took}"),
        Text(f"(sequentially, without a journal: {span(timedelta(seconds=artifacts.sequential_seconds))})", "dim"),
        Text(", ").join(words),
        *(_bad_line(report, accepted=artifacts.accepted(run_id)) for run_id, report in bad[:_BAD_SHOWN]),
    ]
    if len(bad) > _BAD_SHOWN:
        lines.append(Text(f"and {len(bad) - _BAD_SHOWN} more", "dim"))
    return Group(*lines, "")


def _bad_line(report: dict[str, Any], *, accepted: bool) -> Text:
    word, name = report["verdict"], one_line(report["package"]["name"])
    outcome = "accepted" if accepted else "report withdrawn"
    return Text.assemble((word, _STYLES[word]), f" {name}: {_names(report)} ", (f"({outcome})", "dim"))


def _killed(artifacts: Artifacts) -> RenderableType:
    kills = kills_of(artifacts.lines)
    again = ran_again(artifacts.lines)
    calls = len({line.call for line in artifacts.lines if line.event == "started"})
    lines: list[Text] = []
    for kill in kills:
        seconds = kill.seconds_until_restart
        resumed = "" if seconds is None else f"; resumed after {span(timedelta(seconds=seconds))}"
        lines.append(Text(f"pid {kill.pid}, with {_count(len(kill.interrupted), 'handler')} in flight{resumed}"))
        lines.append(Text(f"  {_first_calls(kill.interrupted)}", "dim", no_wrap=True, overflow="ellipsis"))
    interrupted = len({line.call for kill in kills for line in kill.interrupted} & again.keys())
    finished = len(again) - interrupted
    why = f" ({interrupted} interrupted, {finished} finished but not yet journaled)" if finished else ""
    for name, in_flight in faults_of(artifacts.lines):
        lines.append(Text(f"{name}, with {_count(in_flight, 'handler')} in flight"))
    total = f"{_count(len(again), 'handler')} ran again{why}; the other {calls - len(again):,} ran once"
    made, requested = len([kill for kill in kills if kill.interrupted]), artifacts.config.kills
    if made < requested:
        lines.append(Text(f"{made} of {requested} requested kills made; then the work was done", "yellow"))
    return Group(*(lines or [Text("no workers")]), Text(total, "bold"), "")


def _first_calls(interrupted: tuple[LogLine, ...]) -> str:
    named = [f"{one_line(line.title).rpartition(' ')[0]} {_step(line)}" for line in interrupted[:_INTERRUPTED_SHOWN]]
    more = len(interrupted) - len(named)
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")


def _checked(checks: list[Check], *, good: str, bad: str) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        table.add_row(Text(good, "bold green") if check.passed else Text(bad, "bold red"), check.name)
        for problem in check.problems[:_PROBLEMS_SHOWN]:
            table.add_row("", Text(one_line(problem), "red"))
        if len(check.problems) > _PROBLEMS_SHOWN:
            table.add_row("", Text(f"and {len(check.problems) - _PROBLEMS_SHOWN} more", "red"))
    return Group(table, "")


def _next_commands(artifacts: Artifacts) -> list[str]:
    program = _program()
    interrupted = [line for kill in kills_of(artifacts.lines) for line in kill.interrupted]
    audits = {run.run_id for run in artifacts.audits}
    example = next((line for line in interrupted if line.run_id in audits), None)
    run_id = example.run_id if example else next(iter(sorted(audits)), "")
    return [
        f"export STEPWELL_URL={shlex.quote(artifacts.config.store_url(artifacts.directory))}",
        f"{program} list",
        *([f"# {one_line(example.title)} was interrupted in {_step(example)}:"] if example else []),
        f"{program} journal {run_id}",
        f"less {shlex.quote(str(artifacts.directory.log))}",
        f"{program} demo --check --directory {shlex.quote(str(artifacts.directory.root))}",
    ]


def _program() -> str:
    """The name of this program, in a form that can be typed."""
    called = Path(sys.argv[0])
    if called.stem != "stepwell":
        called = Path(sys.executable).with_name("stepwell")
    if not called.exists():
        return f"{shlex.quote(sys.executable)} -m stepwell.cli"
    on_path = shutil.which(called.name)
    if on_path and Path(on_path).resolve() == called.resolve():
        return called.name
    nearby = os.path.relpath(called)
    return shlex.quote(nearby if len(nearby) < len(str(called)) else str(called))


def _names(report: dict[str, Any]) -> str:
    wrong = sum(report[word] for word in BAD)
    more = f" and {wrong - 1} more" if wrong > 1 else ""
    return one_line(report["names"][0]) + more


def _step(line: LogLine) -> str:
    return f"{line.step} {line.iteration}" if line.iteration else line.step


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def _size(number: int) -> str:
    return f"{number / 1e6:,.0f} MB" if number >= _MEGABYTE else f"{number / 1e3:,.0f} kB"
