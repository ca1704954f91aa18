"""Damage: what is stored of a run cannot be what happened. What it is, how it is found, and what becomes of the run.

A run is damaged when its rows contradict each other, its workflow or its own row, when a value in them is no JSON, or
when they hold words that this version of stepwell does not know. Rule 1: it is never failed for that. What its journal
says completed could not be undone any more, and the fault may be ours: another release, or a repair by hand, may make
sense of the same rows. Rule 2: so it is parked as it is. Its worker gives the lease back with the reason; the run is
looked at again after a minute, then after twice as long each time, up to an hour, and at once by a worker of another
release or of other definitions. Rule 3: until then its parent waits; `cancel` ends it, as it ends any run. Rule 4: one
reason has one place. `journal.why_invalid` judges a row where the run stands, and here is judged what is beside the
rows: the run's own row, the values, the messages, and that no row is missing at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from stepwell.core.statuses import LIVE
from stepwell.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepwell.core.journal import JournalRow
    from stepwell.core.mailbox import Message
    from stepwell.core.values import Values


class StoredRun(Protocol):
    """What is judged of a run's own row."""

    @property
    def run_id(self) -> str:
        """The run's id."""

    @property
    def status(self) -> str:
        """Its status, as the stored word."""

    @property
    def seq(self) -> int:
        """How many rows its journal has."""

    @property
    def value(self) -> bytes:
        """Its encoded input; empty where it is missing."""


def check_run(run: StoredRun, rows: Iterable[JournalRow], values: Values) -> None:
    """Raises JournalError for a due run that has ended, or an input or a value in its journal that cannot be read."""
    if run.status not in LIVE:
        raise JournalError(run.run_id, f"its row says {run.status!a}, and that it is due")
    if not values.is_sound(run.value):
        raise JournalError(run.run_id, "its input is missing or cannot be read")
    for row in rows:
        if row.value is not None and not values.is_sound(row.value):
            raise JournalError(run.run_id, f"the value of row {row.seq} cannot be read")


def check_messages(run: StoredRun, messages: Iterable[Message], values: Values) -> None:
    """Raises JournalError for a message whose content cannot be read, or is missing."""
    for message in messages:
        value, error = message.value, message.error
        if (value is None) is (error is None) or (value is not None and not values.is_sound(value)):
            raise JournalError(run.run_id, f"message {message.n} of its mailbox cannot be read")


def check_length(run: StoredRun, rows: int) -> None:
    """Raises JournalError for a journal that is not as long as the run's row says."""
    if rows != run.seq:
        raise JournalError(run.run_id, f"it has {rows} rows where {run.seq} were written")
