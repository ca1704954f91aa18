"""How far one piece of work has come, as its rows tell; only `core/state.py` changes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
