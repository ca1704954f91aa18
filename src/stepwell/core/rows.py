"""What a stored journal row looks like in itself, whatever its workflow: for those who fold it and those who show it.

A row holds *unknown* words when another version of stepwell may have written it; it is *misshapen* when none has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from stepwell.core.model import ASKED, Kind, Phase, RowStatus
from stepwell.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepwell.core.model import JournalRow

_PHASES, _KINDS, _STATUSES = (frozenset(get_args(words)) for words in (Phase, Kind, RowStatus))
_ATTEMPTS = frozenset({"retrying", "suspended"})
_ERRORS = frozenset({"retrying", "failed"})


def check(run_id: str, rows: Iterable[JournalRow]) -> None:
    """Raises JournalError, naming the row, unless all rows of the run are there, known and well-shaped."""
    for place, row in enumerate(rows, 1):
        reason = fault_of(row, place)
        if reason is not None:
            raise JournalError(run_id, reason)


def fault_of(row: JournalRow, place: int) -> str | None:
    """Why this cannot be the row at that place of a journal, or None."""
    if row.seq != place:
        return f"row {place} is missing" if row.seq > place else f"there are two rows {row.seq}"
    word = unknown_word(row)
    if word is not None:
        return f"row {row.seq} has the {word}, which this version of stepwell does not know"
    return f"row {row.seq} is no whole {row.status} row" if _is_misshapen(row) else None


def unknown_word(row: JournalRow) -> str | None:
    """The word in the row that this version has no meaning for, or None."""
    if row.status not in _STATUSES:
        return f"status {row.status!a}"
    if row.phase not in _PHASES:
        return f"phase {row.phase!a}"
    return None if row.kind in _KINDS else f"kind {row.kind!a}"


def _is_misshapen(row: JournalRow) -> bool:
    valued = row.status == "suspended" or (row.status == "completed" and row.phase != "undo")
    return (
        (row.n > 0) is not (row.status in _ATTEMPTS)
        or row.n < 0
        or row.attempt < 1
        or (row.value is not None) is not valued
        or (row.error is not None) is not (row.status in _ERRORS)
        or (row.n > 0 and row.detail not in {None, ASKED})
        or (row.phase == "read" and row.status != "failed")
    )
