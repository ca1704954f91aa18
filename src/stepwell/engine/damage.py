"""Runs whose stored past cannot be what happened: how a worker finds out, and how such a run ends.

Rule 1: a run is damaged when its rows contradict each other, its workflow or its own row, or when a value in them is no
JSON. Rule 2: what this version has no word for is not damage: another version may have written it, and a worker of that
version goes on with the run. Rule 3: a damaged run fails, since a wait for repair would never end by itself. Nothing is
undone: what completed is what nobody knows any more. Its rows stay as they are, for whoever repairs them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from stepwell.core.journal import UNDOING, Work, new_row, unknown_word
from stepwell.core.kinds import KINDS
from stepwell.core.state import RunState, replay
from stepwell.core.statuses import ENDED, LIVE
from stepwell.errors import Failure, JournalError
from stepwell.store.codec import VALUES, is_sound
from stepwell.store.records import Advance, ChildEnd, History, Lease

if TYPE_CHECKING:
    from stepwell.core.mailbox import Message
    from stepwell.core.plan import Plan


def check(lease: Lease, history: History | None) -> None:
    """Raises JournalError for what a fold does not look at: the run's own row, its values and its messages."""
    if lease.status not in LIVE:
        raise JournalError(lease.run_id, f"its row says {lease.status!a}, and that it is due")
    if not is_sound(lease.value):
        raise JournalError(lease.run_id, "its input is missing or cannot be read")
    if history is None:
        return
    for row in history.rows:
        if row.value is not None and not is_sound(row.value):
            raise JournalError(lease.run_id, f"the value of row {row.seq} cannot be read")
    check_message(lease, history.found.message)


def check_message(lease: Lease, message: Message | None) -> None:
    """Raises JournalError for a message whose content is no JSON, or missing."""
    if message is None:
        return
    if (message.value is None) is (message.error is None) or (
        message.value is not None and not is_sound(message.value)
    ):
        raise JournalError(lease.run_id, f"message {message.n} of its mailbox cannot be read")


def check_length(lease: Lease, seq: int) -> None:
    """Raises JournalError for a journal that is not as long as the run's row says."""
    if seq != lease.seq:
        raise JournalError(lease.run_id, f"it has {seq} rows where {lease.seq} were written")


def is_strange(lease: Lease, history: History | None) -> bool:
    """Whether another version of stepwell may have written this: what this one cannot judge, it leaves alone."""
    rows = [] if history is None else history.rows
    kinds = frozenset({UNDOING}).union(*(kind.row_kinds for kind in KINDS.values()))
    strange = any(unknown_word(row) or row.kind not in kinds for row in rows)
    return lease.status not in LIVE | ENDED or strange


def ending(  # noqa: PLR0917  the facts of a row, by one caller
    lease: Lease, plan: Plan, history: History | None, error: JournalError, worker: str, now: int
) -> Advance:
    """The failure of a damaged run: one row that names the damage, and the news to its parent."""
    rows = [] if history is None else history.rows
    state = RunState(lease.run_id, lease.ref, plan, worker, lease.value, VALUES)
    with suppress(JournalError):
        replay(state, rows, () if history is None else history.last_of)
    node = plan.nodes[min(state.position, len(plan.nodes) - 1)].name
    failure = Failure(node, "JournalError", f"{error.reason}; nothing more of the run is done or undone")
    seq = max((row.seq for row in rows), default=lease.seq) + 1
    row = new_row(state, Work(node, phase="read"), "failed", 1, now, now, error=failure)._replace(seq=seq)
    advance = Advance(lease.run_id, lease.ref, lease.token, lease.seq, [row], state.position, "failed")
    advance.release = advance.ended = True
    if lease.parent_id is not None and lease.parent_node is not None:
        told = Failure(lease.parent_node, "ChildFailed", failure.message)
        advance.child_end = ChildEnd(lease.parent_id, lease.parent_node, None, told)
    return advance
