"""From stored rows to what an app returns about its runs, without any workflow code.

A journal is folded by the core's own functions, over a plan made of the stored outline. So `status` shows what a worker
that loads the run would see, and names a row that the worker would not accept by the same words. One bad row is shown
as the `damaged` of its run, and never prevents a page.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from stepwell.core.journal import JournalRow, name_of
from stepwell.core.state import RunState, replay, request_cancel
from stepwell.core.statuses import LIVE
from stepwell.errors import Failure, JournalError
from stepwell.reading.entries import moment_of, value_of
from stepwell.reading.records import RunSnapshot, RunStatus
from stepwell.store.codec import PLAIN
from stepwell.store.outlines import read_outline
from stepwell.store.records import awaited_in
from stepwell.workflow.durations import FIRST_MOMENT, LAST_MOMENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from stepwell.core.plan import Plan
    from stepwell.core.statuses import Status
    from stepwell.store.readings import PlanReading
    from stepwell.store.records import Page, RunRow, Snapshot

ReadingOf: TypeAlias = "Callable[[str], PlanReading | None]"
_FAILING = frozenset({"failed", "compensating"})
_TRYING = frozenset({"running", "compensating"})
_STATUSES: dict[str, RunStatus] = {status.value: status for status in RunStatus}


def _unknown(_: str) -> None:
    """Of no workflow is the code here."""


def status_of(run_id: str, word: str) -> RunStatus:
    """The stored status; raises JournalError for one that this version does not know."""
    status = _STATUSES.get(word)
    if status is None:
        raise JournalError(run_id, f"its status is {word!a}, which this version of stepwell does not know")
    return status


def snapshot_of(stored: Snapshot, reading_of: ReadingOf = _unknown) -> RunSnapshot:
    """The run with its input, results and children, oldest child first; of a damaged one, what can be read.

    `reading_of`: how the values of a workflow are given back that is registered where this is asked.
    """
    run, rows = stored.run, stored.rows
    reading = reading_of(run.workflow)
    faults: list[str] = []
    plan = _plan_of(run, faults)
    results: dict[str, Any] = {}
    if run.value is None:
        faults.append("its input is missing")
    if not faults and plan is not None:
        state = _folded(run, plan, rows, faults)
        if not faults:
            with _noted(faults):
                _check_agreement(run, state)
        results = _results(run.run_id, state, reading, faults)
    retry = open_retry(rows) if run.status in _TRYING else None
    facts = _Facts(rows, retry, stored.unread, faults, reading)
    return _snapshot(run, plan, facts, results, tuple(reversed(listed(stored.children))))


def listed(page: Page) -> list[RunSnapshot]:
    """The runs of a page; one bad row is shown as damaged, and changes nothing for the others."""
    runs = []
    for run in page.runs:
        faults: list[str] = []
        plan = _plan_of(run, faults)
        run_id = run.run_id
        facts = _Facts(page.rows.get(run_id, ()), page.retries.get(run_id), page.unread.get(run_id, {}), faults)
        runs.append(_snapshot(run, plan, facts, None, None))
    return runs


def open_retry(rows: Sequence[JournalRow]) -> JournalRow | None:
    """The newest failed attempt at what has no outcome yet, and was not entered again since."""
    last: dict[tuple[str, str, str], JournalRow] = {}
    for row in rows:
        if row.status != "refused" and not row.name:
            last[row.node, row.item, row.phase] = row
    tried = [row for row in last.values() if row.status == "retrying"]
    return max(tried, key=lambda row: row.seq, default=None)


def compensated_in(rows: Iterable[JournalRow]) -> tuple[str, ...]:
    """The names that were undone, in order."""
    return tuple(name_of(row) for row in rows if row.phase == "undo" and row.status == "completed" and not row.name)


def failed_compensations_in(rows: Iterable[JournalRow]) -> tuple[str, ...]:
    """The names whose compensators failed for good, in order."""
    return tuple(name_of(row) for row in rows if row.phase == "undo" and row.status == "failed")


def error_in(rows: Iterable[JournalRow]) -> Failure | None:
    """Why the run failed, or will: the first failure for good."""
    row = _failed_in(rows)
    return None if row is None else row.error


def _failed_in(rows: Iterable[JournalRow]) -> JournalRow | None:
    return next((row for row in rows if row.phase != "undo" and row.status == "failed"), None)


def _folded(run: RunRow, plan: Plan, rows: Sequence[JournalRow], faults: list[str]) -> RunState:
    """Where the journal has come; of one with a row that does not fit, where it had come before that row."""
    status: Status = "compensating" if run.status == "compensating" else "running"
    state = RunState(run.run_id, 0, plan, "", run.value or b"", PLAIN, status)
    if run.cancel_requested_at is not None:
        request_cancel(state)
    with _noted(faults):
        replay(state, rows)
    return state


def _results(run_id: str, state: RunState, reading: PlanReading | None, faults: list[str]) -> dict[str, Any]:
    """The results so far, and what the node that the run is at has given; those that can be read."""
    encoded = state.results if state.at_end else {**state.results, **state.kind.partial_results(state.node, state)}
    left = [one.snapshot for one in state.progress.values() if one.outcome is None and one.snapshot is not None]
    results: dict[str, Any] = {}
    for name, value in encoded.items():
        types = {} if reading is None else reading.snapshots if any(value is one for one in left) else reading.results
        with _noted(faults):
            results[name] = value_of(run_id, value, f"the result of {name}")
            type_ = types.get(name)
            if reading is not None and type_ is not None and value != state.values.null:
                results[name] = reading.decode_as(type_, value, run_id, f"results.{name}")
    return results


def _input(run: RunRow, reading: PlanReading | None, faults: list[str]) -> Any:
    """The input, as it is declared where the workflow is registered; else, or where it does not fit, as JSON."""
    value: Any = None
    if run.value is not None:
        with _noted(faults):
            value = value_of(run.run_id, run.value, "its input")
            if reading is not None and reading.input is not None:
                value = reading.decode_as(reading.input, run.value, run.run_id, "input")
    return value


def _check_agreement(run: RunRow, state: RunState) -> None:
    """Raises JournalError unless the run's own row and its journal tell the same."""
    if run.position != state.position or (run.status == "completed" and not state.at_end):
        raise JournalError(
            run.run_id, f"its row says {run.status} at node {run.position}, its journal node {state.position}"
        )
    has_reason = state.failed is not None or (state.is_canceling and run.status == "compensating")
    if run.status in _FAILING and not has_reason:
        raise JournalError(run.run_id, f"its row says {run.status}, and no row of its journal tells of a failure")
    known = () if state.at_end else (*state.kind.signals(state.node), *state.kind.suspends_as(state.node))
    for name in awaited_in(run.awaiting):
        if name not in known:
            raise JournalError(run.run_id, f"its row says that it waits for signal {name!a}; its node does not")


class _Facts(NamedTuple):
    """What else is read of a run: rows of its journal, what it tries again, unread signals, and what is wrong."""

    rows: Sequence[JournalRow]
    retry: JournalRow | None
    unread: Mapping[str, int]
    faults: list[str]
    reading: PlanReading | None = None


def _snapshot(
    run: RunRow,
    plan: Plan | None,
    facts: _Facts,
    results: dict[str, Any] | None,
    children: tuple[RunSnapshot, ...] | None,
) -> RunSnapshot:
    """What its row says, with why a worker parked it, or else the first fault that was found in it before or is now."""
    rows, retry, unread, faults, _ = facts
    outline = () if plan is None else plan.nodes
    if outline and not 0 <= run.position <= len(outline):
        faults.append(f"its row says node {run.position} of {len(outline)}")
    at_a_node = 0 <= run.position < len(outline) and run.status != "completed"
    # A page has a hundred of these: what most runs lack costs nothing here.
    status: Any = run.status
    try:
        status = status_of(run.run_id, run.status)
    except JournalError as unknown:
        faults.append(unknown.reason)
    input = _input(run, facts.reading, faults)
    created_at = _nearest_moment(run.run_id, run.created_at, faults)
    updated_at = _nearest_moment(run.run_id, run.updated_at, faults)
    finished_at = None if run.finished_at is None else _nearest_moment(run.run_id, run.finished_at, faults)
    wake_at = None if run.wake_at is None else _nearest_moment(run.run_id, run.wake_at, faults)
    retry_at = None
    if retry is not None and retry.retry_at is not None:
        retry_at = _nearest_moment(run.run_id, retry.retry_at, faults)
    error = error_in(rows)
    parked = run.damaged if run.status in LIVE else None
    awaiting = _in_order(run, plan)
    return RunSnapshot(
        run.run_id,
        run.key,
        run.workflow,
        status,
        run.position,
        outline[run.position].name if at_a_node else None,
        len(outline),
        awaiting[0] if awaiting else None,
        wake_at,
        input,
        results,
        error,
        run.parent_id,
        children,
        compensated_in(rows),
        created_at,
        updated_at,
        finished_at,
        parked or (faults[0] if faults else None),
        _attempt(run, rows, retry),
        error if retry is None else retry.error,
        retry_at,
        dict(unread),
        failed_compensations_in(rows),
        run.fingerprint or "",
        _waits_for(run, retry),
        awaiting,
        None if run.cancel_requested_at is None else _nearest_moment(run.run_id, run.cancel_requested_at, faults),
    )


def _in_order(run: RunRow, plan: Plan | None) -> tuple[str, ...]:
    """The signals that it waits for, as its workflow has them, whatever suspended itself first."""
    awaiting = awaited_in(run.awaiting)
    if len(awaiting) < 2 or plan is None or not 0 <= run.position < len(plan.nodes):  # noqa: PLR2004  one is in order
        return awaiting
    known = plan.kinds[run.position].suspends_as(plan.nodes[run.position])
    places = {name: at for at, name in enumerate(known)}
    return tuple(sorted(awaiting, key=lambda name: places.get(name, len(places))))


def _attempt(run: RunRow, rows: Iterable[JournalRow], retry: JournalRow | None) -> int | None:
    """The attempt under way, or that comes next; of a failed run that which failed it."""
    if run.status in LIVE:
        return 1 if retry is None else retry.attempt + 1
    failed = _failed_in(rows) if run.status == "failed" else None
    return None if failed is None else failed.attempt


def _waits_for(run: RunRow, retry: JournalRow | None) -> str | None:
    """A word for what a run waits for that no worker holds."""
    if run.status not in LIVE or run.worker is not None:
        return None
    if run.status == "suspended":
        return "child" if run.awaiting is None else "signal"
    if run.wake_at is None:
        return "worker"
    return "delay" if run.status == "pending" else "sleep" if retry is None else "retry"


@contextmanager
def _noted(faults: list[str]) -> Iterator[None]:
    """Notes a JournalError among the faults, and goes on."""
    try:
        yield
    except JournalError as error:
        faults.append(error.reason)


def _plan_of(run: RunRow, faults: list[str]) -> Plan | None:
    if run.outline is None:
        faults.append("the outline of its workflow is missing")
        return None
    try:
        return read_outline(run.workflow, run.outline)
    except ValueError:
        faults.append("the stored outline of its workflow cannot be read")
        return None


def _nearest_moment(run_id: str, at: int, faults: list[str]) -> datetime:
    """The instant, or the end of the calendar that is nearest to it."""
    try:
        return moment_of(run_id, at)
    except JournalError as error:
        faults.append(error.reason)
        return FIRST_MOMENT if at < 0 else LAST_MOMENT
