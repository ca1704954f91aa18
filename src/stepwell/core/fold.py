"""How a run's state grows by its journal, one row at a time; the only place that changes a `RunState`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.core.decisions import Park, Record, Spawn
from stepwell.core.model import ASKED, NULL, JournalRow, Parked, Progress, RunState, Status
from stepwell.core.nodes import face_of
from stepwell.core.nodes.parallel import fan_of
from stepwell.core.rows import fault_of
from stepwell.core.sequence import lacks_iterations, misfit_of
from stepwell.core.transitions import may_follow
from stepwell.errors import JournalError
from stepwell.workflow.nodes import Parallel, names_of

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from stepwell.core.decisions import Call
    from stepwell.core.model import Fan, Mail, MessageName


def replay(state: RunState, rows: Iterable[JournalRow], last_of: Container[str] = ()) -> None:
    """Brings a fresh state to where its stored journal has come; raises JournalError for one that does not fit.

    Of the nodes `last_of` the rows before the last outcome may be missing.
    """
    crashes, parked, status = state.crashes, state.parked, state.status
    state.is_replaying = True
    for row in rows:
        is_after_gap = row.node in last_of and row.seq > state.seq + 1 and lacks_iterations(state, row)
        reason = fault_of(row, row.seq if is_after_gap else state.seq + 1)
        reason = reason or misfit_of(state, row, is_after_gap=is_after_gap)
        if reason is not None:
            raise JournalError(state.run_id, reason)
        if is_after_gap and face_of(state.node).compensator(state.node, state, row.item) is not None:
            state.is_partial = True
        apply(state, row)
    state.is_replaying = False
    if status == "compensating" and state.failed is None:
        raise JournalError(state.run_id, "it is compensating, but no row tells of a failure")
    state.crashes, state.parked, state.status = crashes, parked, status
    state.admitted = state.admitted or parked is not None


def begin(state: RunState, call: Call) -> None:
    """Takes in that a call is in flight beside others."""
    state.in_flight.add(call.identity)
    fan = _fan(state)
    if fan is not None:
        fan.take_out(call.item, _retry_at(state, call))


def end(state: RunState, call: Call, *, began: bool) -> None:
    """Takes in that a call is in flight no more; one that never began may begin again."""
    state.in_flight.discard(call.identity)
    fan = _fan(state)
    if fan is not None and not began:
        fan.ready[call.item] = None


def apply(state: RunState, row: JournalRow) -> None:
    """Adds one row of the journal."""
    state.seq = row.seq
    state.crashes = 0
    if row.phase == "undo":
        _apply_undo(state, row)
        return
    if row.n:
        if row.item:
            _apply_entry(state, row)
        _apply_attempt(state.progress.setdefault((row.item, row.phase), Progress()), row)
        state.admitted = state.admitted or row.detail != ASKED
        return
    state.parked = None
    state.admitted = True
    state.last = row
    if row.item:
        _apply_entry(state, row)
    if row.status == "failed":
        state.progress.setdefault((row.item, row.phase), Progress()).outcome = row
        state.failed = state.failed or row
        return
    if row.status == "skipped":
        _leave(state, dict.fromkeys(names_of(state.node), NULL))
        return
    _apply_completed(state, row)


def note(state: RunState, decision: Record | Park | Spawn) -> None:
    """Takes a decision into the state, ahead of the commit that makes it durable."""
    match decision:
        case Record():
            apply(state, decision.row)
            if decision.consumed:
                state.mailbox = [mail for mail in state.mailbox if mail.n not in decision.consumed]
        case Park(since, wake_at):
            state.parked = None if since is None else Parked(since, wake_at, decision.awaiting)
        case Spawn(_, since):  # pragma: no branch  mypy proves that there is no other decision
            state.parked = Parked(since)


def look(state: RunState, name: MessageName, mail: int, found: Mail | None) -> None:
    """Takes in what the mailbox holds of a name: its next unread message, or none among all that were counted."""
    state.mail = mail
    state.known[name] = mail if found is None else found.n
    if found is not None:
        state.mailbox.append(found)


def admit(state: RunState) -> None:
    """Takes a condition's true answer into the state."""
    state.admitted = True


def turn(state: RunState, status: Status) -> None:
    """Changes the run's status, by the table alone."""
    if not may_follow(state.status, status):
        raise JournalError(state.run_id, f"it is {state.status} and cannot become {status}")
    state.status = status


def _apply_completed(state: RunState, row: JournalRow) -> None:
    node = state.plan.nodes[state.position]
    if row.phase == "choose":
        state.choices[node.name] = (row.detail or b"").decode()
        return
    face = face_of(node)
    if face.compensator(node, state, row.item) is not None:
        state.completed.append(row)
    if row.item.startswith("#"):
        state.progress.clear()
    elif row.item:
        state.progress.setdefault((row.item, row.phase), Progress()).outcome = row
    ending = face.results(node, state, row)
    if ending is not None:
        _leave(state, ending)


def _apply_entry(state: RunState, row: JournalRow) -> None:
    """Keeps the entries of a parallel in order: which may begin, which wait, which have completed."""
    fan = _fan(state)
    if fan is None:
        return
    fan.take_out(row.item, _retry_at(state, row))
    if row.n:
        fan.wait(row.item, row.retry_at or 0)
    elif row.status == "completed":
        fan.results[row.item] = row.value or b"null"


def _fan(state: RunState) -> Fan | None:
    node = state.node
    if not isinstance(node, Parallel):
        return None
    if state.fan is None:
        state.fan = fan_of(node, state)
    return state.fan


def _retry_at(state: RunState, entry: Call | JournalRow) -> int | None:
    progress = state.progress.get((entry.item, entry.phase))
    return None if progress is None else progress.retry_at


def _leave(state: RunState, results: dict[str, bytes]) -> None:
    if state.is_replaying:
        state.results.update(results)
    else:
        state.results = {**state.results, **results}
    state.fan = None
    state.position += 1
    state.progress.clear()
    state.admitted = False
    state.last = None


def _apply_undo(state: RunState, row: JournalRow) -> None:
    progress = state.undoing.setdefault((row.node, row.item), Progress())
    if row.n:
        _apply_attempt(progress, row)
        return
    progress.outcome = row
    state.completed.pop()


def _apply_attempt(progress: Progress, row: JournalRow) -> None:
    progress.n = row.n
    progress.retry_at = row.retry_at
    if row.status == "suspended":
        progress.attempts = 0
        progress.entries += 1
        progress.snapshot = row.value
    else:
        progress.attempts = row.attempt
