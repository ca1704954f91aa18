"""What an app gives back about its runs: frozen values, read from stored rows without any workflow code."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.core.model import JournalRow, iteration_of
from stepwell.store.codec import decode
from stepwell.workflow.durations import moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from stepwell.errors import Failure
    from stepwell.store.protocol import Page, RunRow, Snapshot

_END_OF_LOOP = b"end"


class RunStatus(StrEnum):
    """Where a run is in its life."""

    PENDING = "pending"
    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class StartResult:
    """A started run: its id, and how it stands (another status than `pending` for a key that was known)."""

    run_id: str
    status: RunStatus


@dataclass(frozen=True, slots=True)
class ResumeResult:
    """Whether a signal was accepted, and the run's status after the call."""

    accepted: bool
    status: RunStatus


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """The store's schema version, the newest that this stepwell knows, and the migrations between them."""

    version: int
    latest: int
    pending: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a run's journal."""

    node: str
    kind: str
    iteration: int | None
    attempt: int
    status: str
    result: Any
    error: Failure | None
    started_at: datetime
    finished_at: datetime
    worker: str


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """A run's live state; in lists `input`, `results` and `children` are None."""

    run_id: str
    key: str | None
    workflow_name: str
    status: RunStatus
    current_step: int
    current_node: str | None
    total_steps: int
    awaiting_signal: str | None
    wake_at: datetime | None
    input: Any
    results: dict[str, Any] | None
    error: Failure | None
    parent_run_id: str | None
    children: tuple[RunSnapshot, ...] | None
    compensated: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


class _Outline(msgspec.Struct):
    """A stored node's outline, as far as a reader needs it."""

    name: str
    kind: str
    entries: list[str] | None = None


_outline = msgspec.json.Decoder(list[_Outline]).decode


def entry_of(row: JournalRow) -> Entry:
    """The journal row as an entry."""
    return Entry(
        name_of(row),
        row.kind,
        iteration_of(row.item) if row.item else None,
        row.attempt,
        row.status,
        None if row.value is None else decode(row.value),
        row.error,
        moment(row.started_at),
        moment(row.finished_at),
        row.worker,
    )


def name_of(row: JournalRow) -> str:
    """The row's node, or its entry of a parallel."""
    return row.item if row.item and iteration_of(row.item) is None else row.node


def snapshot_of(stored: Snapshot) -> RunSnapshot:
    """The run with its input, results and children, oldest child first."""
    outline = _outline(stored.run.outline)
    children = tuple(reversed(listed(stored.children)))
    return _snapshot(stored.run, stored.rows, results_of(outline, stored.rows), children)


def listed(page: Page) -> list[RunSnapshot]:
    """The runs of a page."""
    return [_snapshot(run, page.rows.get(run.run_id, ()), None, None) for run in page.runs]


def results_of(outline: Sequence[_Outline], rows: Sequence[JournalRow]) -> dict[str, Any]:
    """The results so far, by name, in the order of the nodes."""
    encoded: dict[str, bytes] = {}
    nodes = {node.name: node for node in outline}
    for row in rows:
        node = nodes.get(row.node)
        if node is None or row.phase == "undo":
            continue
        if row.status == "skipped":
            encoded |= dict.fromkeys(node.entries or [node.name], b"null")
        elif row.phase == "choose":
            continue
        elif row.status == "suspended":
            encoded[row.node] = row.value or b"null"
        elif row.status == "failed":
            encoded.pop(name_of(row), None)
        elif row.status == "completed" and (node.kind != "loop" or row.detail == _END_OF_LOOP):
            encoded[name_of(row)] = row.value or b"null"
    names = [name for node in outline for name in node.entries or [node.name]]
    return {name: decode(encoded[name]) for name in names if name in encoded}


def compensated_in(rows: Iterable[JournalRow]) -> tuple[str, ...]:
    """The names that were undone, in order."""
    return tuple(name_of(row) for row in rows if row.phase == "undo" and row.status == "completed")


def error_in(rows: Iterable[JournalRow]) -> Failure | None:
    """Why the run failed, or will: the first failure for good."""
    return next((row.error for row in rows if row.phase != "undo" and row.status == "failed"), None)


def _snapshot(
    run: RunRow, rows: Sequence[JournalRow], results: dict[str, Any] | None, children: tuple[RunSnapshot, ...] | None
) -> RunSnapshot:
    names = [node.name for node in _outline(run.outline)]
    return RunSnapshot(
        run.run_id,
        run.key,
        run.workflow,
        RunStatus(run.status),
        run.position,
        names[run.position] if run.position < len(names) and run.status != "completed" else None,
        len(names),
        run.awaiting,
        None if run.wake_at is None else moment(run.wake_at),
        None if run.value is None else decode(run.value),
        results,
        error_in(rows),
        run.parent_id,
        children,
        compensated_in(rows),
        moment(run.created_at),
        moment(run.updated_at),
        None if run.finished_at is None else moment(run.finished_at),
    )
