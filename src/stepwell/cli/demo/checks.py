"""Holding what a demo left behind against the truth: the plain computation, the journal, and the handlers' own log."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell import RunStatus
from stepwell.cli.demo.audit import open_app
from stepwell.cli.demo.handlers_log import Call, Line, LogReader
from stepwell.cli.demo.plain import straight_through
from stepwell.cli.demo.play import all_runs
from stepwell.cli.demo.tally import BAD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stepwell import Entry, RunSnapshot
    from stepwell.cli.demo.script import Place, Script

Audited = dict[tuple[str, str, str], list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Remains:
    """All that a demo left behind, and what the plain computation finds."""

    place: Place
    script: Script
    audits: list[RunSnapshot]
    collects: list[RunSnapshot]
    journals: dict[str, list[Entry]]
    log: LogReader
    plain: Audited
    plain_seconds: float

    @property
    def lines(self) -> list[Line]:
        """The handlers' log, in its order."""
        return self.log.lines

    @property
    def reports(self) -> dict[str, dict[str, Any]]:
        """The journaled report of each audit's run, by its id."""
        return {run.run_id: report for run in self.audits if (report := self._result(run.run_id, "report"))}

    def accepted(self, run_id: str) -> bool:
        """Whether a person has accepted the report of this run."""
        answer = self._result(run_id, "signoff")
        return bool(answer and answer["accepted"])

    def _result(self, run_id: str, node: str) -> Any:
        completed = [entry for entry in self.journals[run_id] if entry.node == node and entry.status == "completed"]
        return completed[0].result if completed else None


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold, and what speaks against it."""

    name: str
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class Kill:
    """A worker process that was killed: what was in flight, and how long until one of these handlers began again."""

    pid: int
    cut_off: tuple[Line, ...]
    seconds_until_again: float | None


async def remains_of(place: Place, script: Script) -> Remains:
    """Reads what the demo left: every run and journal through the public calls, the log from its file."""
    log = LogReader(place.log)
    log.read()
    async with open_app(place, script) as app:
        audits = sorted(await all_runs(app, "audit"), key=lambda run: run.key or "")
        collects = await all_runs(app, "collect")
        everything = [*audits, *collects, *await all_runs(app, "hash")]
        journals = {run.run_id: await app.journal(run.run_id) for run in everything}
    clock = asyncio.get_running_loop().time
    began = clock()
    plain = straight_through(Path(folder) for folder in script.folders)
    return Remains(place, script, audits, collects, journals, log, plain, clock() - began)


def disturbances_of(lines: list[Line]) -> list[tuple[str, int]]:
    """What else was done, in its order, each with the number of handlers that were in flight."""
    found, in_flight = [], set[tuple[int, Call]]()
    for line in lines:
        if line.word == "begun":
            in_flight.add((line.pid, line.call))
        elif line.word == "killed":
            in_flight = {(pid, call) for pid, call in in_flight if pid != line.pid}
        elif line.word == "disturbed":
            found.append((line.title, len(in_flight)))
        else:
            in_flight.discard((line.pid, line.call))
    return found


def kills_of(lines: list[Line]) -> list[Kill]:
    """The kills, in their order, as the log tells of them."""
    kills = []
    for at, line in enumerate(lines):
        if line.word == "killed":
            of_worker = [earlier for earlier in lines[:at] if earlier.pid == line.pid]
            ended = {earlier.call for earlier in of_worker if earlier.word != "begun"}
            cut_off = tuple(begun for begun in of_worker if begun.call not in ended)
            calls = {begun.call for begun in cut_off}
            again = next((later.at for later in lines[at:] if later.word == "begun" and later.call in calls), None)
            kills.append(Kill(line.pid, cut_off, None if again is None else again - line.at))
    return kills


def ran_again(lines: Iterable[Line]) -> dict[Call, int]:
    """How often each piece of work was begun, of those that were begun more than once."""
    begun = Counter(line.call for line in lines if line.word == "begun")
    return {call: count for call, count in begun.items() if count > 1}


def check_all(remains: Remains) -> list[Check]:
    """Every check, in the order in which a reader asks."""
    checks: dict[str, Callable[[Remains], Iterable[str]]] = {
        "every package audited, judged as by a straight-through computation": _audited_as_plain,
        "every run ended as its verdict says; bad reports withdrawn": _ended_as_verdict,
        "the last run collected every report": _collected,
        "every outcome journaled once, and found in the handlers' own log": _journaled_once,
        "every handler that a kill cut off ran again, to its end": _cut_off_ran_again,
        "nothing else ran again, and nothing once it was journaled": _nothing_else_ran_again,
    }
    found = [Check(name, tuple(problems(remains))) for name, problems in checks.items()]
    asked, made = remains.script.kills, len([kill for kill in kills_of(remains.lines) if kill.cut_off])
    if asked:
        none = () if made else ("the work was over before a worker could be killed",)
        found.insert(0, Check("workers were killed with handlers in flight", none))
    for name in remains.script.disturbances:
        was = any(in_flight for disturbed, in_flight in disturbances_of(remains.lines) if disturbed == name)
        none = () if was else ("it was not, or the work was over before",)
        found.insert(1, Check(f"{name} was restarted with handlers in flight", none))
    return found


def _audited_as_plain(remains: Remains) -> Iterable[str]:
    audited: Audited = defaultdict(list)
    for run_id, report in remains.reports.items():
        package = report["package"]
        told = {name: value for name, value in report.items() if name not in ("package", "names")}
        audited[package["folder"], package["name"], package["version"]].append(told)
        yield from _report_problems(remains, run_id, report)
    for key in sorted(audited.keys() | remains.plain.keys()):
        title = f"{key[1]} {key[2]} in {key[0]}"
        mine, plain = (sorted(map(_shown, found.get(key, []))) for found in (audited, remains.plain))
        if not mine:
            yield f"{title}: not audited"
        elif not plain:
            yield f"{title}: audited, but not installed"
        elif mine != plain:
            yield f"{title}: audited as {'; '.join(mine)}, straight through as {'; '.join(plain)}"


def _report_problems(remains: Remains, run_id: str, report: dict[str, Any]) -> Iterable[str]:
    stands = report["verdict"] not in BAD or remains.accepted(run_id)
    key = next(run.key or "" for run in remains.audits if run.run_id == run_id)
    here, gone = remains.place.report(key, withdrawn=not stands), remains.place.report(key, withdrawn=stands)
    if gone.exists():
        yield f"{key}: its report is {'withdrawn' if stands else 'not withdrawn'}"
    try:
        written = json.loads(here.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        yield f"{key}: no report that can be read: {error}"
        return
    if written != report:
        yield f"{key}: the report in its file is not the journaled one"


def _ended_as_verdict(remains: Remains) -> Iterable[str]:
    reports = remains.reports
    for run in remains.audits:
        report = reports.get(run.run_id)
        stands = report is not None and (report["verdict"] not in BAD or remains.accepted(run.run_id))
        expected = (RunStatus.COMPLETED, ()) if stands else (RunStatus.FAILED, ("report",))
        if (run.status, tuple(run.compensated)) != expected:
            verdict = report["verdict"] if report else "no report"
            yield f"{run.key}: {run.status} with {verdict}, undone: {', '.join(run.compensated) or 'nothing'}"
    for run in remains.collects:
        if run.status is not RunStatus.COMPLETED:
            yield f"the last run is {run.status}"


def _collected(remains: Remains) -> Iterable[str]:
    plain = [report for found in remains.plain.values() for report in found]
    expected = {
        "packages": len(plain),
        "files": sum(report["files"] for report in plain),
        "bytes": sum(report["bytes"] for report in plain),
        "verdicts": dict(sorted(Counter(report["verdict"] for report in plain).items())),
    }
    try:
        summary = json.loads(remains.place.summary.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        yield f"no summary that can be read: {error}"
        return
    if summary != expected:
        yield f"collected {_shown(summary)}, straight through {_shown(expected)}"


def _journaled_once(remains: Remains) -> Iterable[str]:
    journaled = Counter(call for call, _ in _outcomes(remains))
    ended = {line.call for line in remains.lines if line.word in ("ended", "raised")}
    for call, count in journaled.items():
        if count > 1:
            yield f"{_named(call)}: journaled {count} times"
        if call not in ended:
            yield f"{_named(call)}: journaled, but by its own log it never ended"
    for call in ended - journaled.keys():
        yield f"{_named(call)}: ended by its own log, but not journaled"


def _cut_off_ran_again(remains: Remains) -> Iterable[str]:
    ended = {line.call for line in remains.lines if line.word == "ended"}
    for kill in kills_of(remains.lines):
        for line in kill.cut_off:
            if line.call not in ended:
                yield f"{line.title}, {_named(line.call)}: cut off with pid {kill.pid}, and never ended"
    killed = {line.pid for line in remains.lines if line.word == "killed"}
    for pid in {line.pid for line in remains.lines} - killed:
        for line in remains.log.open_calls(pid):
            yield f"{line.title}, {_named(line.call)}: begun in pid {pid}, which was not killed, and never ended"


def _nothing_else_ran_again(remains: Remains) -> Iterable[str]:
    begun: dict[Call, list[Line]] = defaultdict(list)
    killed: dict[Call, set[int]] = {}
    dead: set[int] = set()
    raised: set[tuple[Call, int]] = set()
    for line in remains.lines:
        if line.word == "killed":
            dead.add(line.pid)
        elif line.word == "raised":
            raised.add((line.call, line.pid))
        elif line.word == "begun":
            begun[line.call].append(line)
            killed[line.call] = set(dead)
    for call, lines in begun.items():
        for earlier, later in pairwise(lines):
            if earlier.pid not in killed[call] and (call, earlier.pid) not in raised:
                yield f"{later.title}, {_named(call)}: ran again, though pid {earlier.pid} was not killed before"
    yield from _ran_again_once_journaled(remains, begun)


def _ran_again_once_journaled(remains: Remains, begun: dict[Call, list[Line]]) -> Iterable[str]:
    """An outcome is that of the last process that began the work; else the work was begun again after it.

    Which process a worker was is told by the work that was begun only once. No clock is asked: those of two processes
    need not agree to the millisecond.
    """
    outcomes = dict(_outcomes(remains))
    pid_of = {outcomes[call]: lines[0].pid for call, lines in begun.items() if len(lines) == 1 and call in outcomes}
    for call, lines in begun.items():
        last = lines[-1]
        if call in outcomes and pid_of.get(outcomes[call], last.pid) != last.pid:
            yield f"{last.title}, {_named(call)}: ran again in pid {last.pid} after its outcome was journaled"


def _outcomes(remains: Remains) -> Iterable[tuple[Call, str]]:
    """The outcomes of handlers in the journals, and the worker that journaled each."""
    phases = {"step": "do", "compensate": "undo"}
    for run_id, journal in remains.journals.items():
        for entry in journal:
            if entry.kind in phases and entry.status in ("completed", "failed"):
                yield (run_id, phases[entry.kind], entry.node, entry.iteration), entry.worker


def _named(call: Call) -> str:
    run_id, phase, step, iteration = call
    return f"{'undoing ' if phase == 'undo' else ''}{step}{f' {iteration}' if iteration else ''} of run {run_id}"


def _shown(value: object) -> str:
    return json.dumps(value, sort_keys=True)
