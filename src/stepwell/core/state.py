"""Where a run stands: its journal, folded row by row up to its current node; the only place that changes a `RunState`.

The state runs ahead of the store by the rows whose commit is on its way, and is dropped when that commit is lost. It is
rebuilt by the functions that built it: `replay` applies stored rows exactly as the drive applies new ones, so a restart
arrives at the state that the process before it had. The cost of an advance must not grow with what is behind it: the
entries of a parallel are kept by what may begin, what waits and what has completed (`Fan`), and are never all walked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepwell.core.decisions import Park, Record, Spawn
from stepwell.core.fan import Fan
from stepwell.core.journal import ASKED_AGAIN, UNCALLED, Work, is_of_condition, why_invalid
from stepwell.core.mailbox import MessageName
from stepwell.core.progress import Progress, note_attempt, note_sub_step
from stepwell.core.statuses import may_follow
from stepwell.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from stepwell.core.decisions import Call
    from stepwell.core.flat import PlainStep
    from stepwell.core.journal import JournalRow, Phase
    from stepwell.core.kinds import Kind
    from stepwell.core.kinds.kind import Undone
    from stepwell.core.mailbox import Message
    from stepwell.core.plan import Plan
    from stepwell.core.statuses import Status
    from stepwell.core.values import Values
    from stepwell.workflow.nodes import Node


@dataclass(slots=True)
class Parked:
    """How the run waits at its node: since when, and until when; instants in microseconds."""

    at: int
    wake_at: int | None = None


@dataclass(slots=True)
class RunState:
    """A run's journal, folded up to its current node; only the functions of this module change it."""

    run_id: str
    ref: int
    plan: Plan
    worker: str
    input: bytes
    values: Values
    status: Status = "running"
    seq: int = 0
    crashes: int = 0
    messages: int = 0
    max_crashes: int = 5
    position: int = 0
    results: dict[str, bytes] = field(default_factory=dict)
    progress: dict[tuple[str, Phase], Progress] = field(default_factory=dict)
    undoing: dict[tuple[str, str], Progress] = field(default_factory=dict)
    undoable: list[JournalRow] = field(default_factory=list)
    """The outcomes of what is to be undone, should the run fail or be canceled."""
    entered: dict[tuple[str, str], int] = field(default_factory=dict)
    """How many times what is to be undone was entered again after it had suspended itself."""
    choices: dict[str, str] = field(default_factory=dict)
    failed: JournalRow | None = None
    last: JournalRow | None = None
    parked: Parked | None = None
    mailbox: list[Message] = field(default_factory=list)
    known: dict[MessageName, int] = field(default_factory=dict)
    """By name of a message: up to which number the mailbox was searched for it. Most names are never searched for."""
    fan: Fan | None = None
    in_flight: set[tuple[str, str, Phase]] = field(default_factory=set)
    admitted: bool = False
    is_partial: bool = False
    """Whether rows of completed work that can be undone were not loaded, so that `undoable` lacks them."""
    is_unknown: bool = False
    """Whether handlers of the work that is open now may have been called by an owner that left no row of it."""
    is_canceling: bool = False
    """Whether it was requested that the run is undone and ends as canceled."""
    lag: int = 0
    """By how much `now` may be behind the store's clock, in microseconds; durations are added to `now` and this."""
    is_replaying: bool = False
    """Whether the journal is being replayed: no call has been given `results` yet, so they may grow in place."""

    @property
    def kind(self) -> Kind[Any]:
        """The kind of the node it is at."""
        return self.plan.kinds[self.position]

    @property
    def node(self) -> Node:
        """The node it is at."""
        return self.plan.nodes[self.position]

    @property
    def at_end(self) -> bool:
        """Whether every node has its outcome."""
        return self.position >= len(self.plan.nodes)

    def progress_of(self, work: Work | JournalRow) -> Progress:
        """How far the work has come; not to be changed."""
        if work.phase == "undo":
            return self.undoing.get((work.node, work.item), _NEW)
        return self.progress.get((work.item, work.phase), _NEW)

    def first_message(self, name: MessageName) -> Message | None:
        """The first message of that name that the run has not used, of those that it knows."""
        return next((message for message in self.mailbox if (message.kind, message.name) == name), None)


_NEW = Progress()


def replay(state: RunState, rows: Iterable[JournalRow], last_of: Container[str] = ()) -> None:
    """Applies a stored journal to a fresh state; raises JournalError for a row that cannot be the next one.

    Of the nodes `last_of` the rows before the last outcome may be missing.
    """
    crashes, parked, status = state.crashes, state.parked, state.status
    state.is_replaying = True
    for row in rows:
        is_after_gap = row.node in last_of and not row.name and row.seq > state.seq + 1 and _may_leave_out(state, row)
        reason = why_invalid(state, row, is_after_gap=is_after_gap)
        if reason is not None:
            raise JournalError(state.run_id, reason)
        if is_after_gap and _undone(state, row.item) is not None:
            state.is_partial = True
        apply(state, row)
    state.is_replaying = False
    if status == "compensating" and state.failed is None and not state.is_canceling:
        raise JournalError(state.run_id, "it is compensating, but no row tells of a failure")
    state.crashes, state.parked, state.status = crashes, parked, status
    state.admitted = state.admitted or parked is not None


def begin(state: RunState, call: Call) -> None:
    """Notes that a call is in flight beside others."""
    state.in_flight.add(call.identity)
    fan = _fan(state)
    if fan is not None:
        fan.take_out(call.item, _retry_at(state, call))


def end(state: RunState, call: Call, *, began: bool) -> None:
    """Notes that a call is no longer in flight; one that never began may begin again."""
    state.in_flight.discard(call.identity)
    fan = _fan(state)
    if fan is not None and not began:
        fan.ready[call.item] = None


def stop(state: RunState, call: Call) -> None:
    """Notes that a call was stopped before it gave anything; if its handler was called, that may have had effects."""
    if call.was_called:
        state.progress.setdefault((call.item, call.phase), Progress()).called = call.attempt
    fan = _fan(state)
    if fan is not None:
        fan.ready[call.item] = None


def doubt(state: RunState) -> None:
    """Notes that handlers of the work that is open now may have been called, and left no row."""
    state.is_unknown = True


def request_cancel(state: RunState) -> None:
    """Notes that the run is to be undone, and to end as canceled."""
    state.is_canceling = True


def apply(state: RunState, row: JournalRow) -> None:
    """Adds one row of the journal."""
    state.seq = row.seq
    state.crashes = 0
    if row.name:
        _apply_sub_step(state, row)
        return
    if row.phase == "undo":
        _apply_undo(state, row)
        return
    if row.n:
        if row.item:
            _apply_entry(state, row)
        note_attempt(state.progress.setdefault((row.item, row.phase), Progress()), row)
        state.admitted = state.admitted or not is_of_condition(row)
        state.is_unknown = state.is_unknown or row.detail == ASKED_AGAIN
        return
    state.parked = None
    state.admitted = True
    state.last = row
    if row.item:
        _apply_entry(state, row)
    if row.status == "failed":
        state.progress.setdefault((row.item, row.phase), Progress()).outcome = row
        state.failed = state.failed or row
        if is_to_be_undone(state, row):
            _keep_undoable(state, row)
        return
    if row.status == "skipped":
        _leave(state, dict.fromkeys(state.node.names, state.values.null))
        return
    _apply_completed(state, row)


def apply_plain(state: RunState, step: PlainStep, row: JournalRow) -> None:
    """The same for the completed row of a plain step, before which the state was usual: no other part of it changes."""
    state.seq = row.seq
    if step.is_undone:
        state.undoable.append(row)
    state.is_unknown = False
    state.results = {**state.results, step.name: row.value or b"null"}
    state.position += 1


def apply_decision(state: RunState, decision: Record | Park | Spawn) -> None:
    """Applies a decision, ahead of the commit that makes it durable."""
    match decision:
        case Record():
            if decision.consumed:
                state.mailbox = [message for message in state.mailbox if message.n not in decision.consumed]
            if is_counted(state, decision.row):
                _count_refusal(state, decision.row)
            else:
                apply(state, decision.row)
        case Park(since, wake_at):
            state.parked = None if since is None else Parked(since, wake_at)
        case Spawn(_, since):  # pragma: no branch  mypy proves that there is no other decision
            state.parked = Parked(since)


def is_counted(state: RunState, row: JournalRow) -> bool:
    """Whether the row takes the place of the last refused one of its wait, which counts one more."""
    return row.status == "refused" and row.seq <= state.seq


def _count_refusal(state: RunState, row: JournalRow) -> None:
    state.progress[row.item, row.phase].last_refused = row
    if state.fan is not None:
        state.fan.take_out(row.item, _retry_at(state, row))
        state.fan.waiting[row.item] = None


def look(state: RunState, names: Iterable[MessageName], messages: int, found: Iterable[Message]) -> None:
    """Notes what a search of the mailbox found: the next unread message of each name, or none among all counted."""
    state.messages = messages
    state.known.update(dict.fromkeys(names, messages))
    for message in found:
        state.known[MessageName(message.kind, message.name)] = message.n
        state.mailbox.append(message)
        if state.fan is not None and message.kind == "signal" and message.name in state.fan.waiting:
            state.fan.answer(message.name, state.progress[message.name, "do"].retry_at)


def awaited(state: RunState) -> tuple[MessageName, ...]:
    """The signals that what is suspended at its node waits for; none of them is known to be in the mailbox."""
    if state.at_end or state.failed is not None or state.is_canceling:
        return ()
    return state.kind.awaited(state.node, state)


def admit(state: RunState) -> None:
    """Notes that the node's condition is true."""
    state.admitted = True


def reopen(state: RunState, status: Status) -> None:
    """Takes back the end of the run, which the store refused: it has the status that it had before."""
    state.status = status


def set_status(state: RunState, status: Status) -> None:
    """Changes the status; raises JournalError for a change that is not in the table."""
    if not may_follow(state.status, status):
        raise JournalError(state.run_id, f"it is {state.status} and cannot become {status}")
    state.status = status


def _apply_completed(state: RunState, row: JournalRow) -> None:
    node, kind = state.node, state.kind
    if row.phase == "choose":
        state.choices[node.name] = kind.choice(row)
        state.is_unknown = False
        return
    if is_to_be_undone(state, row):
        _keep_undoable(state, row)
    if row.item.startswith("#"):
        state.progress.clear()
        state.is_unknown = False
    elif row.item:
        state.progress.setdefault((row.item, row.phase), Progress()).outcome = row
    ending = kind.results(node, state, row)
    if ending is not None:
        _leave(state, ending)


def is_to_be_undone(state: RunState, row: JournalRow) -> bool:
    """Whether this outcome is of work that is to be undone: it completed, or may have been called and says so."""
    undone = _undone(state, row.item)
    if undone is None:
        return False
    return row.status == "completed" or (undone.undo == "attempted" and row.detail != UNCALLED)


def _undone(state: RunState, item: str) -> Undone | None:
    """What has the compensator of this piece of work of the node that the run is at, if it has one."""
    found: Undone | None = state.kind.undone(state.node, state, item)
    return None if found is None or found.compensate is None else found


def _keep_undoable(state: RunState, row: JournalRow) -> None:
    state.undoable.append(row)
    entries = state.progress_of(row).entries
    if entries:
        state.entered[row.node, row.item] = entries


def _apply_entry(state: RunState, row: JournalRow) -> None:
    """Keeps the entries of a parallel in order: which may begin, which wait, which have completed."""
    fan = _fan(state)
    if fan is None:
        return
    fan.take_out(row.item, _retry_at(state, row))
    if row.n:
        was_entered_again = state.progress_of(Work(row.node, row.item)).snapshot is not None
        if row.status in {"suspended", "refused"} or (was_entered_again and not _is_answered(state, row.item)):
            fan.waiting[row.item] = None
        else:
            fan.wait(row.item, row.retry_at or 0)
    elif row.status == "completed":
        fan.results[row.item] = row.value or state.values.null


def _is_answered(state: RunState, item: str) -> bool:
    """Whether the signal that enters the entry again is known; after a restart it is looked for once more."""
    return state.first_message(MessageName("signal", item)) is not None


def _fan(state: RunState) -> Fan | None:
    if state.fan is None:
        entries = state.kind.entries(state.node)
        state.fan = None if entries is None else Fan(dict.fromkeys(entries))
    return state.fan


def _may_leave_out(state: RunState, row: JournalRow) -> bool:
    """Whether the rows between where the run stands and this one may be missing, as not needed to go on."""
    return not state.at_end and state.kind.may_leave_out(state.node, state, row)


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
    state.admitted = state.is_unknown = False
    state.last = None


def _apply_sub_step(state: RunState, row: JournalRow) -> None:
    """Keeps it with its work, whose handler was called by then; the work goes on."""
    if row.phase == "undo":
        progress = state.undoing.setdefault((row.node, row.item), Progress())
    else:
        progress = state.progress.setdefault((row.item, row.phase), Progress())
        state.admitted = True
    note_sub_step(progress, row)


def _apply_undo(state: RunState, row: JournalRow) -> None:
    progress = state.undoing.setdefault((row.node, row.item), Progress())
    if row.n:
        note_attempt(progress, row)
        return
    progress.outcome = row
    # Without the workflow's code, what was not undone in between is taken to have no compensator.
    done = state.undoable.pop()
    while (done.node, done.item) != (row.node, row.item):
        done = state.undoable.pop()
