"""What a person sees of the demo: its course while it plays, and its outcome; or nothing, for machines."""

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

from stepwell.cli.demo.audit import SIGNAL
from stepwell.cli.demo.checks import Check, Remains, disturbances_of, kills_of, ran_again
from stepwell.cli.demo.tally import BAD
from stepwell.cli.output import has_marks
from stepwell.cli.text import one_line, span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from stepwell import RunSnapshot
    from stepwell.cli.demo.handlers_log import Line
    from stepwell.cli.demo.play import Moment
    from stepwell.cli.demo.script import Disturbance, Script

_ROWS_SHOWN = 8
_BAD_SHOWN = 8
_CUT_OFF_SHOWN = 3
_PROBLEMS_SHOWN = 5
_TITLE_WIDTH = 34
_MEGABYTE = 1_000_000
_STYLES = {"ok": "green", "altered": "red", "missing": "red", "unreadable": "yellow", "unrecorded": "dim"}


class Screen:
    """The demo's audience at a terminal, or in a file, which is told of the kills only."""

    def __init__(self, *, quiet: bool, stays: bool) -> None:
        self._stays = stays
        self.console = Console(quiet=quiet, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._live: Live | None = None
        self._good, self._bad = ("✓", "✗") if has_marks(sys.stdout) else ("+", "x")

    def opening(self, packages: int, script: Script, disturbances: Sequence[Disturbance]) -> None:
        """Says what will be seen."""
        one = Text.assemble(
            (f"{packages} Python packages", "bold"), " are installed here. A run of its own audits each of them:"
        )
        two = "every file is hashed and held against what the package's RECORD says of it."
        killed, times = ("killed", "bold red"), _times(script.kills)
        three = Text.assemble("The worker process will be ", killed, f" with SIGKILL {times}, in the midst of it.")
        if script.workers > 1:
            many = f"{script.workers} worker processes share it. {times.capitalize()} one of them will be "
            three = Text.assemble(many, killed, " with SIGKILL.")
        promises = [disturbance.promise for disturbance in disturbances]
        self._lines(one, two, *([three] if script.kills else []), *promises, "")

    @contextmanager
    def live(self) -> Iterator[None]:
        """While inside, the course of the demo is shown, where there is a terminal to show it at."""
        self._start_live()
        try:
            yield
        finally:
            self._stop_live()

    def show(self, moment: Moment) -> None:
        """Shows how far the demo is."""
        if self._live:
            self._live.update(_course(moment), refresh=True)

    def killed(self, worker: int, pid: int, cut_off: list[Line]) -> None:
        """Says that a worker was killed, and what it was doing."""
        doing = f"with {_count(len(cut_off), 'handler')} in flight" if cut_off else "between two handlers, so once more"
        self._lines(Text.assemble((f"{self._bad} ", "bold red"), f"worker {worker} (pid {pid}) killed {doing}"))

    def disturbed(self, name: str, in_flight: int) -> None:
        """Says that something else was done."""
        doing = f"with {_count(in_flight, 'handler')} in flight"
        self._lines(Text.assemble((f"{self._bad} ", "bold red"), f"{name} crashed and restarted {doing}"))

    def accepts(self, snapshot: RunSnapshot, report: dict[str, Any]) -> bool:
        """Asks the person whether a bad report is accepted; no answer is a no."""
        self._stop_live()
        package = report["package"]
        self._lines(
            "",
            Text.assemble(
                (f"{package['name']} {package['version']}", "bold"), f" is {report['verdict']}: ", _names(report)
            ),
        )
        self._lines(
            Text(f"run {snapshot.run_id} waits for the signal {SIGNAL}: from here, or by `stepwell signal`", "dim")
        )
        try:
            return click.confirm("Accept it as it is?", default=False, err=self.console.stderr)
        except click.Abort:
            self._lines("")
            return False
        finally:
            self._start_live()

    @contextmanager
    def waiting(self, words: str) -> Iterator[None]:
        """While inside, says what is being done."""
        if not self.console.is_terminal:
            yield
            return
        with self.console.status(words):
            yield

    def outcome(self, remains: Remains, checks: list[Check], seconds: float | None) -> None:
        """Shows what was found, what was killed, what holds, and how to look at it."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold cyan", no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row("Audited", _audited(remains, seconds))
        table.add_row("Killed", _killed(remains))
        table.add_row("Checked", _checked(checks, good=self._good, bad=self._bad))
        self.console.print()
        self.console.print(table, soft_wrap=False)
        if self._stays:
            self._lines(Text("Look at it", "bold cyan"), *(f"  {line}" for line in _ways_to_look(remains)))

    def stopped(self, url: str) -> None:
        """Says what is left of a demo that was interrupted."""
        self._lines(f"Stopped. What was done is kept in {url}" if self._stays else "Stopped.")

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


def _course(moment: Moment) -> RenderableType:
    head = Table.grid(padding=(0, 2))
    head.add_column(style="cyan", no_wrap=True)
    head.add_column(width=40, no_wrap=True)
    head.add_column(justify="right", no_wrap=True)
    bar = ProgressBar(total=moment.packages, completed=moment.audited, width=40)
    head.add_row("packages", bar, f"{moment.audited} of {moment.packages}")
    head.add_row("hashed", f"{moment.files:,} files, {_size(moment.bytes)}", f"{moment.seconds:.1f} s")
    for number, pid, in_flight in moment.workers:
        doing = f"{_count(in_flight, 'handler')} in flight" if in_flight else "starting"
        head.add_row(f"worker {number}", f"pid {pid}, {doing}")
    rows = Table.grid(padding=(0, 2))
    rows.add_column(width=8)
    rows.add_column(width=_TITLE_WIDTH, no_wrap=True, overflow="ellipsis")
    rows.add_column(width=12, no_wrap=True)
    rows.add_column(style="bold yellow", no_wrap=True)
    for line in moment.in_flight[:_ROWS_SHOWN]:
        rows.add_row("", one_line(line.title), _step(line), "again" if line in moment.again else "")
    blank = [Text("")] * max(_ROWS_SHOWN - len(moment.in_flight), 0)
    return Group(head, rows, *blank)


def _audited(remains: Remains, seconds: float | None) -> RenderableType:
    reports = list(remains.reports.values())
    files, size = (sum(report[name] for report in reports) for name in ("files", "bytes"))
    took = f" in {span(timedelta(seconds=seconds))}" if seconds is not None else ""
    verdicts = Counter(report["verdict"] for report in reports)
    words = [Text(f"{verdicts[word]} {word}", style) for word, style in _STYLES.items() if verdicts[word]]
    bad = [(run_id, report) for run_id, report in remains.reports.items() if report["verdict"] in BAD]
    lines = [
        Text(f"{_count(len(reports), 'package')}, {files:,} files, {_size(size)}{took}"),
        Text(f"(straight through, without a journal: {span(timedelta(seconds=remains.plain_seconds))})", "dim"),
        Text(", ").join(words),
        *(_bad_line(report, accepted=remains.accepted(run_id)) for run_id, report in bad[:_BAD_SHOWN]),
    ]
    if len(bad) > _BAD_SHOWN:
        lines.append(Text(f"and {len(bad) - _BAD_SHOWN} more", "dim"))
    return Group(*lines, "")


def _bad_line(report: dict[str, Any], *, accepted: bool) -> Text:
    word, name = report["verdict"], one_line(report["package"]["name"])
    became = "accepted" if accepted else "report withdrawn"
    return Text.assemble((word, _STYLES[word]), f" {name}: {_names(report)} ", (f"({became})", "dim"))


def _killed(remains: Remains) -> RenderableType:
    kills = kills_of(remains.lines)
    again = ran_again(remains.lines)
    calls = len({line.call for line in remains.lines if line.word == "begun"})
    lines: list[Text] = []
    for kill in kills:
        later = kill.seconds_until_again
        went_on = "" if later is None else f"; went on after {span(timedelta(seconds=later))}"
        lines.append(Text(f"pid {kill.pid}, with {_count(len(kill.cut_off), 'handler')} in flight{went_on}"))
        lines.append(Text(f"  {_some_of(kill.cut_off)}", "dim", no_wrap=True, overflow="ellipsis"))
    cut_off = len({line.call for kill in kills for line in kill.cut_off} & again.keys())
    ended = len(again) - cut_off
    why = f" ({cut_off} cut off, {ended} ended but not journaled yet)" if ended else ""
    for name, in_flight in disturbances_of(remains.lines):
        lines.append(Text(f"{name}, with {_count(in_flight, 'handler')} in flight"))
    total = f"{_count(len(again), 'handler')} ran again{why}; the other {calls - len(again):,} ran once"
    made, asked = len([kill for kill in kills if kill.cut_off]), remains.script.kills
    if made < asked:
        lines.append(Text(f"{asked} kills were asked for; the work was over before the rest", "yellow"))
    return Group(*(lines or [Text("no worker")]), Text(total, "bold"), "")


def _some_of(cut_off: tuple[Line, ...]) -> str:
    named = [f"{one_line(line.title).rpartition(' ')[0]} {_step(line)}" for line in cut_off[:_CUT_OFF_SHOWN]]
    more = len(cut_off) - len(named)
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


def _ways_to_look(remains: Remains) -> list[str]:
    program = _program()
    cut_off = [line for kill in kills_of(remains.lines) for line in kill.cut_off]
    audits = {run.run_id for run in remains.audits}
    told = next((line for line in cut_off if line.run_id in audits), None)
    run_id = told.run_id if told else next(iter(sorted(audits)), "")
    return [
        f"export STEPWELL_URL={shlex.quote(remains.script.store(remains.place))}",
        f"{program} list",
        *([f"# {one_line(told.title)} was cut off in {_step(told)}:"] if told else []),
        f"{program} journal {run_id}",
        f"less {shlex.quote(str(remains.place.log))}",
        f"{program} demo --check --directory {shlex.quote(str(remains.place.root))}",
    ]


def _program() -> str:
    """How this program was called, in a form that can be typed again."""
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


def _step(line: Line) -> str:
    return f"{line.step} {line.iteration}" if line.iteration else line.step


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def _size(number: int) -> str:
    return f"{number / 1e6:,.0f} MB" if number >= _MEGABYTE else f"{number / 1e3:,.0f} kB"
