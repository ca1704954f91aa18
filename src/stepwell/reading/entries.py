"""A run's journal as entries, and the stored values and instants in it, each read or named as what cannot be read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stepwell.core.journal import iteration_of, name_of, why_malformed
from stepwell.core.refusals import refused_after
from stepwell.errors import JournalError, PayloadError
from stepwell.reading.records import Entry
from stepwell.store.codec import PLAIN
from stepwell.workflow.durations import moment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from stepwell.core.journal import JournalRow
    from stepwell.errors import Failure


def entries_of(run_id: str, rows: Sequence[JournalRow]) -> list[Entry]:
    """The journal as entries; raises JournalError for one that no run has."""
    for place, row in enumerate(rows, 1):
        reason = why_malformed(row, place)
        if reason is not None:
            raise JournalError(run_id, reason)
    return [
        Entry(
            name_of(row),
            row.kind,
            _iteration_of(run_id, row),
            row.attempt,
            row.status,
            None if row.value is None else value_of(run_id, row.value, f"the value of row {row.seq}"),
            _error_of(row),
            moment_of(run_id, row.started_at),
            moment_of(run_id, row.finished_at),
            row.worker,
            row.seq,
            row.name or None,
        )
        for row in rows
    ]


def _error_of(row: JournalRow) -> Failure | None:
    """Why it failed or was refused; the last refused row of a wait tells how many came after it."""
    after = refused_after(row) if row.status == "refused" else 0
    if row.error is None or not after:
        return row.error
    return replace(row.error, message=f"{row.error.message} ({after} more were refused after it)")


def value_of(run_id: str, data: bytes, what: str) -> Any:
    """The decoded value; raises JournalError, naming `what`, for bytes that are none."""
    try:
        return PLAIN.decode(data)
    except PayloadError as error:
        raise JournalError(run_id, f"{what} cannot be read: {error.reason}") from None


def moment_of(run_id: str, at: int) -> datetime:
    """The instant; raises JournalError for one outside the range of dates."""
    try:
        return moment(at)
    except OverflowError:
        raise JournalError(run_id, f"a time of {at:,} microseconds since 1970 is no instant") from None


def _iteration_of(run_id: str, row: JournalRow) -> int | None:
    try:
        return iteration_of(row.item)
    except ValueError:
        raise JournalError(run_id, f"row {row.seq} is of {row.item!a}, which is no iteration") from None
