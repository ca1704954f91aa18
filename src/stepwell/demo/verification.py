"""Verifies a demo: compares its results with a sequential computation, the journal and the handler log."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell import RunStatus
from stepwell.demo.driver import all_runs
from stepwell.demo.findings import BAD
from stepwell.demo.handler_log import Call, LogLine, LogReader
from stepwell.demo.sequential import audit_sequentially
from stepwell.demo.workflows import open_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stepwell import Entry, RunSnapshot
    from stepwell.demo.config import DemoConfig, DemoDirectory

Reports = dict[tuple[str, str, str], list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Artifacts:
    """Everything a demo left behind, and the expected reports of the sequential computation."""

    directory: DemoDirectory
    config: DemoConfig
    audits: list[RunSnapshot]
    collects: list[RunSnapshot]
    journals: dict[str, list[Entry]]
    log: LogReader
    expected: Reports
    sequential_seconds: float

    @property
    def lines(self) -> list[LogLine]:
        """The lines of the handler log, in order."""
        return self.log.lines

    @property
    def reports(self) -> dict[str, dict[str, Any]]:
        """The journaled report of each `audit` run, by run id."""
        return {run.run_id: report for run in self.audits if (report := self._result(run.run_id, "report"))}

    def accepted(self, run_id: str) -> bool:
        """Whether a person accepted the report of this run."""
        answer = self._result(run_id, "signoff")
        return bool(answer and answer["accepted"])

    def _result(self, run_id: str, node: str) -> Any:
        completed = [entry for entry in self.journals[run_id] if entry.node == node and entry.status == "completed"]
        return completed[0].result if completed else None


@dataclass(frozen=True, slots=True)
class Check:
    """A check and the problems it found."""

    name: str
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the check found no problem."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class Kill:
    """A killed worker process, the handlers it had in flight, and the time until one of them was started again."""

    pid: int
    interrupted: tuple[LogLine, ...]
    seconds_until_restart: float | None


async def load_artifacts(directory: DemoDirectory, config: DemoConfig) -> Artifacts:
    """Reads every run and journal through the public API, and the log from its file."""
    log = LogReader(directory.log)
    log.read()
    async with open_app(directory, config) as app:
        audits = sorted(await all_runs(app, "audit"), key=lambda run: run.key or "")
        collects = await all_runs(app, "collect")
        everything = [*audits, *collects, *await all_runs(app, "hash")]
        journals = {run.run_id: await app.journal(run.run_id) for run in everything}
    clock = asyncio.get_running_loop().time
    started_at = clock()
    expected = audit_sequentially(Path(folder) for folder in config.folders)
    return Artifacts(directory, config, audits, collects, journals, log, expected, clock() - started_at)


def faults_of(lines: list[LogLine]) -> list[tuple[str, int]]:
    """The injected faults, in order, each with the number of handlers in flight."""
    found, in_flight = [], set[tuple[int, Call]]()
    for line in lines:
        if line.event == "started":
            in_flight.add((line.pid, line.call))
        elif line.event == "killed":
            in_flight = {(pid, call) for pid, call in in_flight if pid != line.pid}
        elif line.event == "fault":
            found.append((line.title, len(in_flight)))
        else:
            in_flight.discard((line.pid, line.call))
    return found


def kills_of(lines: list[LogLine]) -> list[Kill]:
    """The kills in the log, in order."""
    kills = []
    for at, killed in enumerate(lines):
        if killed.event == "killed":
            of_worker = [earlier for earlier in lines[:at] if earlier.pid == killed.pid]
            ended = {earlier.call for earlier in of_worker if earlier.event != "started"}
            interrupted = tuple(line for line in of_worker if line.call not in ended)
            calls = {line.call for line in interrupted}
            restarts = (later.at for later in lines[at:] if later.event == "started" and later.call in calls)
            restarted_at = next(restarts, None)
            seconds = None if restarted_at is None else restarted_at - killed.at
            kills.append(Kill(killed.pid, interrupted, seconds))
    return kills


def ran_again(lines: Iterable[LogLine]) -> dict[Call, int]:
    """How many times each call was started, for the calls that were started more than once."""
    started = Counter(line.call for line in lines if line.event == "started")
    return {call: count for call, count in started.items() if count > 1}


def check_all(artifacts: Artifacts) -> list[Check]:
    """The result of every check."""
    checks: dict[str, Callable[[Artifacts], Iterable[str]]] = {
        "every package has the report that the sequential computation expects": _reports_as_expected,
        "every run ended as its verdict requires, with bad reports withdrawn": _ended_as_verdict,
        "the summary includes every report": _summary_complete,
        "every outcome is journaled once and matches the handler log": _journaled_once,
        "every handler that a kill interrupted ran again and finished": _interrupted_ran_again,
        "no other handler ran again, and none after its outcome was journaled": _nothing_else_ran_again,
    }
    found = [Check(name, tuple(problems(artifacts))) for name, problems in checks.items()]
    if artifacts.config.kills:
        made = any(kill.interrupted for kill in kills_of(artifacts.lines))
        problems_found = () if made else ("the work was done before a worker could be killed",)
        found.insert(0, Check("workers were killed with handlers in flight", problems_found))
    for name in artifacts.config.faults:
        made = any(in_flight for fault, in_flight in faults_of(artifacts.lines) if fault == name)
        problems_found = () if made else ("it was not restarted, or no handler was in flight",)
        found.insert(1, Check(f"{name} was restarted with handlers in flight", problems_found))
    return found


def _reports_as_expected(artifacts: Artifacts) -> Iterable[str]:
    audited: Reports = defaultdict(list)
    for run_id, report in artifacts.reports.items():
        package = report["package"]
        compared = {name: value for name, value in report.items() if name not in ("package", "names")}
        audited[package["folder"], package["name"], package["version"]].append(compared)
        yield from _report_problems(artifacts, run_id, report)
    for key in sorted(audited.keys() | artifacts.expected.keys()):
        title = f"{key[1]} {key[2]} in {key[0]}"
        reports, expected = (sorted(map(_shown, found.get(key, []))) for found in (audited, artifacts.expected))
        if not reports:
            yield f"{title}: not audited"
        elif not expected:
            yield f"{title}: audited, but not found by the sequential computation"
        elif reports != expected:
            yield f"{title}: audited as {'; '.join(reports)}, expected {'; '.join(expected)}"


def _report_problems(artifacts: Artifacts, run_id: str, report: dict[str, Any]) -> Iterable[str]:
    accepted = report["verdict"] not in BAD or artifacts.accepted(run_id)
    key = next(run.key or "" for run in artifacts.audits if run.run_id == run_id)
    file = artifacts.directory.report(key, withdrawn=not accepted)
    if artifacts.directory.report(key, withdrawn=accepted).exists():
        yield f"{key}: its report is {'withdrawn' if accepted else 'not withdrawn'}"
    try:
        written = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        yield f"{key}: cannot read its report: {error}"
        return
    if written != report:
        yield f"{key}: the report in its file differs from the journaled one"


def _ended_as_verdict(artifacts: Artifacts) -> Iterable[str]:
    reports = artifacts.reports
    for run in artifacts.audits:
        report = reports.get(run.run_id)
        accepted = report is not None and (report["verdict"] not in BAD or artifacts.accepted(run.run_id))
        expected = (RunStatus.COMPLETED, ()) if accepted else (RunStatus.FAILED, ("report",))
        if (run.status, tuple(run.compensated)) != expected:
            verdict = report["verdict"] if report else "no report"
            yield f"{run.key}: {run.status} with {verdict}, compensated: {', '.join(run.compensated) or 'nothing'}"
    for run in artifacts.collects:
        if run.status is not RunStatus.COMPLETED:
            yield f"the run of workflow collect is {run.status}"


def _summary_complete(artifacts: Artifacts) -> Iterable[str]:
    reports = [report for found in artifacts.expected.values() for report in found]
    expected = {
        "packages": len(reports),
        "files": sum(report["files"] for report in reports),
        "bytes": sum(report["bytes"] for report in reports),
        "verdicts": dict(sorted(Counter(report["verdict"] for report in reports).items())),
    }
    try:
        summary = json.loads(artifacts.directory.summary.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        yield f"cannot read the summary: {error}"
        return
    if summary != expected:
        yield f"summary is {_shown(summary)}, expected {_shown(expected)}"


def _journaled_once(artifacts: Artifacts) -> Iterable[str]:
    journaled = Counter(call for call, _ in _outcomes(artifacts))
    logged = {line.call for line in artifacts.lines if line.event in ("finished", "raised")}
    for call, count in journaled.items():
        if count > 1:
            yield f"{_named(call)}: journaled {count} times"
        if call not in logged:
            yield f"{_named(call)}: journaled, but never finished according to the handler log"
    for call in logged - journaled.keys():
        yield f"{_named(call)}: finished according to the handler log, but not journaled"


def _interrupted_ran_again(artifacts: Artifacts) -> Iterable[str]:
    finished = {line.call for line in artifacts.lines if line.event == "finished"}
    for kill in kills_of(artifacts.lines):
        for line in kill.interrupted:
            if line.call not in finished:
                yield f"{line.title}, {_named(line.call)}: interrupted in pid {kill.pid} and never finished"
    killed = {line.pid for line in artifacts.lines if line.event == "killed"}
    for pid in {line.pid for line in artifacts.lines} - killed:
        for line in artifacts.log.open_calls(pid):
            yield f"{line.title}, {_named(line.call)}: started in pid {pid}, which was not killed, and never finished"


def _nothing_else_ran_again(artifacts: Artifacts) -> Iterable[str]:
    started: dict[Call, list[LogLine]] = defaultdict(list)
    killed: dict[Call, set[int]] = {}
    dead: set[int] = set()
    raised: set[tuple[Call, int]] = set()
    for line in artifacts.lines:
        if line.event == "killed":
            dead.add(line.pid)
        elif line.event == "raised":
            raised.add((line.call, line.pid))
        elif line.event == "started":
            started[line.call].append(line)
            killed[line.call] = set(dead)
    for call, lines in started.items():
        for earlier, later in pairwise(lines):
            if earlier.pid not in killed[call] and (call, earlier.pid) not in raised:
                yield f"{later.title}, {_named(call)}: ran again although pid {earlier.pid} had not been killed"
    yield from _ran_again_after_journaled(artifacts, started)


def _ran_again_after_journaled(artifacts: Artifacts, started: dict[Call, list[LogLine]]) -> Iterable[str]:
    """The journaled outcome must come from the last process that started the call.

    The calls that were started only once tell which worker ran in which process. Timestamps are not compared, because
    the clocks of two processes may differ by milliseconds.
    """
    outcomes = dict(_outcomes(artifacts))
    pid_of = {outcomes[call]: lines[0].pid for call, lines in started.items() if len(lines) == 1 and call in outcomes}
    for call, lines in started.items():
        last = lines[-1]
        if call in outcomes and pid_of.get(outcomes[call], last.pid) != last.pid:
            yield f"{last.title}, {_named(call)}: ran again in pid {last.pid} after its outcome was journaled"


def _outcomes(artifacts: Artifacts) -> Iterable[tuple[Call, str]]:
    """The handlers' outcomes in the journals, each with the worker that journaled it."""
    phases = {"step": "do", "compensate": "undo"}
    for run_id, journal in artifacts.journals.items():
        for entry in journal:
            if entry.kind in phases and entry.status in ("completed", "failed"):
                yield (run_id, phases[entry.kind], entry.node, entry.iteration), entry.worker


def _named(call: Call) -> str:
    run_id, phase, step, iteration = call
    return f"{'undoing ' if phase == 'undo' else ''}{step}{f' {iteration}' if iteration else ''} of run {run_id}"


def _shown(value: object) -> str:
    return json.dumps(value, sort_keys=True)
