"""What a person is shown of runs: the list, one run, its journal; as rich lines, asking nobody for anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from stepwell import RunStatus
from stepwell.cli import text
from stepwell.cli.tables import GAP, Column, fits, status_text, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from stepwell import Entry, Failure, RunSnapshot

ENDED = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELED)

LIST_COLUMNS = (
    Column("RUN"),
    Column("AGE", right=True),
    Column("WORKFLOW", least=8),
    Column("STATUS"),
    Column("AT", least=12),
)
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


def runs_table(runs: Sequence[RunSnapshot], width: int, at: datetime) -> list[Text]:
    """The list of runs; their ids in full where there is room, else shortened so that none is like another."""
    rows = [
        (text.rough(at - run.created_at), run.workflow_name, status_text(run.status), whereabouts(run, at))
        for run in runs
    ]
    return _with_ids(LIST_COLUMNS, [run.run_id for run in runs], rows, width)


def journal_table(entries: Sequence[Entry], width: int) -> list[Text]:
    """The journal, one entry a line, at times counted from the first."""
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


def run_view(run: RunSnapshot, width: int, at: datetime, *, with_traceback: bool = False) -> list[Text]:
    """All that is to be said about one run."""
    head = Text.assemble((run.workflow_name, "bold"), GAP, run.run_id)
    lines = [head, Text.assemble(status_text(run.status), GAP, whereabouts(run, at, in_full=True)), Text()]
    facts: list[tuple[str, str]] = [("created", f"{text.instant(run.created_at)} ({text.ago(run.created_at, at)})")]
    if run.finished_at is not None:
        took = text.span(run.finished_at - run.created_at)
        facts.append(("finished", f"{text.instant(run.finished_at)} ({text.ago(run.finished_at, at)}, after {took})"))
    else:
        facts.append(("updated", f"{text.instant(run.updated_at)} ({text.ago(run.updated_at, at)})"))
    if run.wake_at is not None:
        facts.append(("wakes", f"{text.instant(run.wake_at)} ({text.until(run.wake_at, at)})"))
    if run.key is not None:
        facts.append(("key", text.printable(run.key)))
    if run.parent_run_id is not None:
        facts.append(("parent", run.parent_run_id))
    facts.append(("input", text.value(run.input)))
    if run.compensated:
        facts.append(("undone", ", ".join(run.compensated)))
    if run.error is not None:
        facts.append(("error", failure(run.error)))
    lines += _pairs(facts, width)
    if run.results:
        lines += [Text(), Text("Results", style="bold"), *_pairs(_results(run), width, indent=GAP)]
    if run.children:
        rows = [(child.workflow_name, status_text(child.status), whereabouts(child, at)) for child in run.children]
        ids = [child.run_id for child in run.children]
        lines += [Text(), Text("Child runs", style="bold"), *_with_ids(CHILD_COLUMNS, ids, rows, width)]
    if with_traceback and run.error is not None and run.error.traceback:
        lines += [Text(), *(Text(text.printable(line), style="dim") for line in run.error.traceback.splitlines())]
    return lines


def results_view(run: RunSnapshot, width: int) -> list[Text]:
    """The results of a run by name."""
    return _pairs(_results(run), width, indent=GAP)


def whereabouts(run: RunSnapshot, at: datetime, *, in_full: bool = False) -> str:
    """Where the run is and what moves it next; of one that has ended, how it ended."""
    if run.damaged is not None:
        return f"damaged: {text.one_line(run.damaged)}"
    if run.status == RunStatus.COMPLETED:
        return "" if not in_full else f"all {run.total_steps} nodes" if run.total_steps != 1 else "its one node"
    if run.status == RunStatus.FAILED and run.error is not None:
        return failure(run.error) if not in_full else f"at {run.error.node}"
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
    """The entry's node, with the iteration of a loop."""
    return entry.node if entry.iteration is None else f"{entry.node} #{entry.iteration}"


def outcome(entry: Entry) -> str:
    """What came of it: the result, or the error."""
    if entry.error is not None:
        return text.one_line(f"{entry.error.type}: {entry.error.message}".rstrip(": "))
    return "" if entry.result is None else text.value(entry.result)


def _waits(run: RunSnapshot, at: datetime) -> str:
    wakes = "" if run.wake_at is None else text.until(run.wake_at, at)
    match run.status:
        case RunStatus.PENDING:
            return f"starts {wakes}" if wakes and wakes != "now" else "waits for a worker"
        case RunStatus.SUSPENDED if run.awaiting_signal is not None:
            return f"signal {run.awaiting_signal}" + (f", times out {wakes}" if wakes else "")
        case RunStatus.SUSPENDED:
            return "child run"
        case RunStatus.CANCELED:
            return ""
        case _:
            return f"wakes {wakes}" if wakes else ""


def _results(run: RunSnapshot) -> list[tuple[str, str]]:
    return [(name, text.value(result)) for name, result in (run.results or {}).items()]


def _pairs(facts: Sequence[tuple[str, str]], width: int, indent: str = "") -> list[Text]:
    """Names and what belongs to them, one a line, cut off at the width."""
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
