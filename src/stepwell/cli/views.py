"""Formats runs for people as rich lines: the list, one run, its journal."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from rich.text import Text

from stepwell import RunStatus
from stepwell.cli import text
from stepwell.cli.tables import GAP, Column, fits, status_text, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from stepwell import Entry, Explanation, Failure, RunSnapshot

ENDED = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELED)

LIST_COLUMNS = (
    Column("RUN"),
    Column("AGE", right=True),
    Column("WORKFLOW", least=8),
    Column("STATUS"),
    Column("AT", least=12),
)
KEY_COLUMN = Column("KEY", least=5)
VERSION_COLUMN = Column("VERSION")
VERSION_DIGITS = 8
JOURNAL_COLUMNS = (
    Column("AT", right=True),
    Column("NODE", least=12),
    Column("KIND"),
    Column("TRY", right=True),
    Column("STATUS"),
    Column("TOOK", right=True),
    Column("RESULT", least=12),
)
CHILD_COLUMNS = (Column("RUN"), Column("WORKFLOW", least=8), Column("STATUS"), Column("AT", least=12))


def runs_table(
    runs: Sequence[RunSnapshot], width: int, at: datetime, why: Mapping[str, Explanation] | None = None
) -> list[Text]:
    """The list of runs, with full ids if there is room, else with shortened but distinct ones.

    Keys and versions get a column if they differ. `why` maps some of the runs to their explanation.
    """
    explained = why or {}
    rows: list[list[str | Text]] = [
        [
            text.rough(at - run.created_at),
            run.workflow_name,
            status_text(run.status),
            explained[run.run_id].brief if run.run_id in explained else position(run, at),
        ]
        for run in runs
    ]
    columns = list(LIST_COLUMNS)
    workflows = {run.workflow_name for run in runs}
    if len({(run.workflow_name, run.definition) for run in runs}) > len(workflows):
        columns.insert(3, VERSION_COLUMN)
        for run, row in zip(runs, rows, strict=True):
            row.insert(2, run.definition[:VERSION_DIGITS])
    if len({run.key for run in runs}) > 1:
        columns.insert(3, KEY_COLUMN)
        for run, row in zip(runs, rows, strict=True):
            row.insert(2, "" if run.key is None else text.printable(run.key))
    return _with_ids(columns, [run.run_id for run in runs], rows, width)


def why_view(why: Explanation, width: int, at: datetime) -> list[Text]:
    """Why a run does not move, and the commands that would move it."""
    lines = [*_sentence(why, width, at), Text()]
    facts = [(action.label, action.command) for action in why.actions]
    if why.since is not None:
        facts.insert(0, ("since", f"{text.instant(why.since)} ({text.ago(why.since, at)})"))
    return [*lines, *_pairs(facts, width)]


def journal_table(entries: Sequence[Entry], width: int) -> list[Text]:
    """The journal, one entry per line, with times relative to the first."""
    begin = min(entry.started_at for entry in entries)
    rows = [
        (
            f"+{text.span(entry.finished_at - begin)}",
            label(entry),
            entry.kind,
            str(entry.attempt),
            status_text(entry.status),
            text.span(entry.finished_at - entry.started_at),
            outcome(entry),
        )
        for entry in entries
    ]
    return table(JOURNAL_COLUMNS, rows, width)


def run_view(
    run: RunSnapshot, width: int, at: datetime, why: Explanation | None = None, *, with_traceback: bool = False
) -> list[Text]:
    """Everything about one run, starting with why it does not move."""
    head = Text.assemble((run.workflow_name, "bold"), GAP, run.run_id)
    lines = [head, Text.assemble(status_text(run.status), GAP, position(run, at, in_full=True))]
    if why is not None and run.status not in ENDED:
        lines += _sentence(why, width, at)
    lines.append(Text())
    lines += _pairs(_facts(run, at), width)
    if run.results:
        lines += [Text(), Text("Results", style="bold"), *_pairs(_results(run), width, indent=GAP)]
    if run.children:
        rows = [(child.workflow_name, status_text(child.status), position(child, at)) for child in run.children]
        ids = [child.run_id for child in run.children]
        lines += [Text(), Text("Child runs", style="bold"), *_with_ids(CHILD_COLUMNS, ids, rows, width)]
    if with_traceback and run.error is not None and run.error.traceback:
        lines += [Text(), *(Text(text.printable(line), style="dim") for line in run.error.traceback.splitlines())]
    return lines


def _facts(run: RunSnapshot, at: datetime) -> list[tuple[str, str]]:
    """The facts about a run, except its results."""
    facts: list[tuple[str, str]] = [("created", f"{text.instant(run.created_at)} ({text.ago(run.created_at, at)})")]
    if run.finished_at is not None:
        took = text.span(run.finished_at - run.created_at)
        facts.append(("finished", f"{text.instant(run.finished_at)} ({text.ago(run.finished_at, at)}, after {took})"))
    else:
        facts.append(("updated", f"{text.instant(run.updated_at)} ({text.ago(run.updated_at, at)})"))
    if run.wake_at is not None and run.waits_for == "retry":
        facts.append(("next attempt", f"{text.instant(run.wake_at)} ({text.until(run.wake_at, at)})"))
    elif run.wake_at is not None:
        facts.append(("wakes", f"{text.instant(run.wake_at)} ({text.until(run.wake_at, at)})"))
    if run.key is not None:
        facts.append(("key", text.printable(run.key)))
    if run.parent_run_id is not None:
        facts.append(("parent", run.parent_run_id))
    facts.append(("input", text.value(run.input)))
    return facts + _problems(run)


def _problems(run: RunSnapshot) -> list[tuple[str, str]]:
    """Errors, compensations and unused signals."""
    facts: list[tuple[str, str]] = []
    if run.unread_signals:
        unread = (name if count == 1 else f"{name} ({count})" for name, count in run.unread_signals.items())
        facts.append(("unused signals", ", ".join(unread)))
    if run.compensated:
        facts.append(("compensated", ", ".join(run.compensated)))
    if run.failed_compensations:
        facts.append(("not compensated", ", ".join(run.failed_compensations)))
    if run.last_error is not None and run.last_error != run.error:
        facts.append(("last error", failure(run.last_error)))
    if run.error is not None:
        facts.append(("error", failure(run.error)))
    return facts


def results_view(run: RunSnapshot, width: int) -> list[Text]:
    """The results of a run by name."""
    return _pairs(_results(run), width, indent=GAP)


def position(run: RunSnapshot, at: datetime, *, in_full: bool = False) -> str:
    """The run's current node and what it waits for; if it has ended, how it ended."""
    if run.damaged is not None:
        return f"damaged: {text.one_line(run.damaged)}"
    if run.status == RunStatus.COMPLETED:
        return "" if not in_full else f"all {run.total_steps} nodes" if run.total_steps != 1 else "its one node"
    if run.status == RunStatus.FAILED and run.error is not None:
        if in_full:
            return f"at {run.error.node}"
        left = f"not compensated: {', '.join(run.failed_compensations)}; " if run.failed_compensations else ""
        return left + failure(run.error)
    if run.status == RunStatus.PENDING:
        return _waits(run, at)
    node = run.current_node or "the end"
    place = f"at {node}, {min(run.current_step + 1, run.total_steps)} of {run.total_steps}" if in_full else node
    waits = _waits(run, at)
    return f"{place}: {waits}" if waits else place


def failure(error: Failure) -> str:
    """A failure in one line."""
    return text.one_line(f"{error.node}: {error.type}: {error.message}".rstrip(": "))


def label(entry: Entry) -> str:
    """The entry's node, with the iteration of a loop and the name of a sub-step."""
    node = entry.node if entry.iteration is None else f"{entry.node} #{entry.iteration}"
    return node if entry.name is None else f"{node}/{entry.name}"


def outcome(entry: Entry) -> str:
    """The entry's result or error."""
    if entry.error is not None:
        return text.one_line(f"{entry.error.type}: {entry.error.message}".rstrip(": "))
    return "" if entry.result is None else text.value(entry.result)


def _waits(run: RunSnapshot, at: datetime) -> str:
    wakes = "" if run.wake_at is None else text.until(run.wake_at, at)
    match run.status:
        case RunStatus.PENDING:
            return f"starts {wakes}" if wakes and wakes != "now" else "waits for a worker"
        case RunStatus.SUSPENDED if run.awaiting_signals:
            return f"signal {', '.join(run.awaiting_signals)}" + (f", times out {wakes}" if wakes else "")
        case RunStatus.SUSPENDED:
            return "child run"
        case RunStatus.CANCELED:
            return ""
        case _:
            if run.last_error is not None and run.retry_at is not None and run.attempt is not None:
                return _retry(run, wakes)
            return f"wakes {wakes}" if wakes else ""


def _retry(run: RunSnapshot, wakes: str) -> str:
    """The failed attempt and the time of the next one, or that the next one is running."""
    error: Any = run.last_error
    said = text.one_line(f"{error.type}: {error.message}".rstrip(": "))
    if not wakes:
        return f"attempt {run.attempt}, after {said}"
    return f"attempt {(run.attempt or 2) - 1} failed with {said}; next attempt {wakes}"


def _sentence(why: Explanation, width: int, at: datetime) -> list[Text]:
    """The sentence, wrapped, with the time until it ends."""
    wait = "" if why.until is None else f" ({text.until(why.until, at)})"
    said = f"{why.sentence.removesuffix('.')}{wait}." if wait else why.sentence
    return [Text(line, style="yellow") for line in textwrap.wrap(text.printable(said), width)]


def _results(run: RunSnapshot) -> list[tuple[str, str]]:
    return [(name, text.value(result)) for name, result in (run.results or {}).items()]


def _pairs(facts: Sequence[tuple[str, str]], width: int, indent: str = "") -> list[Text]:
    """Names and values, one pair per line, truncated at the width."""
    broad = max((len(name) for name, _ in facts), default=0)
    lines = []
    for name, fact in facts:
        line = Text.assemble(indent, (name.ljust(broad), "dim"), GAP, fact)
        line.truncate(width, overflow="ellipsis")
        lines.append(line)
    return lines


def _with_ids(
    columns: Sequence[Column], ids: Sequence[str], rows: Sequence[Sequence[str | Text]], width: int
) -> list[Text]:
    full = [(run_id, *row) for run_id, row in zip(ids, rows, strict=True)]
    if fits(columns, full, width):
        return table(columns, full, width)
    short = text.short_ids(ids)
    return table(columns, [(short[run_id], *row) for run_id, row in zip(ids, rows, strict=True)], width)
