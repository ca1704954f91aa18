"""Payloads that do not fit: a wait refuses them, journals them with the reason, and goes on waiting.

Rule 1: a wrong message never fails a run. A payload is checked when its wait takes it, whatever delivered it, by the
type that the wait declares. Rule 2: the commit of the refused row takes the message out of the mailbox and frees its
key, so that a mended payload may come under the same key; the journal keeps the payload, and `redeliver` puts it back.
Rule 3: a wait has at most `MOST` such rows; what it refuses after that is counted in the last one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.core.decisions import Record
from stepwell.core.journal import REFUSAL, JournalRow, Work, new_row
from stepwell.errors import Failure

if TYPE_CHECKING:
    from stepwell.core.mailbox import Message
    from stepwell.core.state import RunState
    from stepwell.workflow.annotations import Declaration

MOST = 100


def refusal(
    state: RunState, work: Work, payload: Declaration, message: Message, now: int, *, since: int | None = None
) -> Record | None:
    """The record of the payload's refusal, by work that began to wait at `since` (None: now); None if it fits."""
    declared, value = payload.type, message.value or state.values.null
    if declared is None:
        return None
    reason = state.values.misfit(declared, value, f"payload.{work.name}")
    if reason is None:
        return None
    progress = state.progress_of(work)
    last = progress.last_refused
    if last is not None and progress.refused >= MOST:
        return Record(last._replace(detail=b"%d" % (refused_after(last) + 1)), (message.n,))
    error = Failure(work.name, "PayloadError", reason)
    refused = Work(work.node, work.item, "do", REFUSAL)
    row = new_row(state, refused, "refused", 1, now if since is None else since, now, value, None, error)
    return Record(row, (message.n,))


def refused_after(row: JournalRow) -> int:
    """How many payloads the wait has refused after this row, its last one."""
    return int(row.detail or 0)
