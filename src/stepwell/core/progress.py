"""How far one piece of work has come, as its rows tell; only this module and `core/state.py` change it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepwell.core.journal import UNCALLED, is_of_condition

if TYPE_CHECKING:
    from stepwell.core.journal import JournalRow


@dataclass(slots=True)
class Progress:
    """How far one piece of work has come: a node, an entry, an iteration, a choice, or an undoing."""

    n: int = 0
    attempts: int = 0
    entries: int = 0
    retry_at: int | None = None
    snapshot: bytes | None = None
    outcome: JournalRow | None = None
    called: int = 0
    """The last attempt in which its handler is known to have been called."""
    refused: int = 0
    """How many rows tell of payloads that its wait refused."""
    last_refused: JournalRow | None = None
    since: int | None = None
    """When a wait began that has refused a payload."""
    sub_steps: dict[str, JournalRow] | None = None
    """What its handler has journaled by itself, by name; kept over attempts and re-entries."""


def note_attempt(progress: Progress, row: JournalRow) -> None:
    """Takes in a row before the outcome: a failed attempt, a suspension, or a refused payload."""
    progress.n = row.n
    if row.status == "refused":
        progress.refused += 1
        progress.last_refused = row
        progress.since = row.started_at if progress.since is None else progress.since
        return
    progress.retry_at = row.retry_at
    if row.detail != UNCALLED and not is_of_condition(row):
        progress.called = row.attempt
    if row.status == "suspended":
        progress.attempts = 0
        progress.entries += 1
        progress.snapshot = row.value
    else:
        progress.attempts = row.attempt


def note_sub_step(progress: Progress, row: JournalRow) -> None:
    """Takes in a sub-step's row; the handler that it is of was called by then."""
    progress.called = row.attempt
    if progress.sub_steps is None:
        progress.sub_steps = {}
    progress.sub_steps[row.name] = row
