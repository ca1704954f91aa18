"""The journal's rows: what one holds, how one is made, and which one can follow where a run stands.

A row's identity in its run is `(node, item, phase, name, n)`. `item` is an entry of a parallel or an iteration of a
loop, `phase` the part of the node's work, `name` is empty for the node itself, and `n` is 0 for the outcome, 1, 2, …
for the rows before it: failed attempts, suspensions, refused payloads. `seq` is its place in the run, from 1: the order
of completion is `seq`, never a clock. `new_row` makes every row (`completed_row` that of a plain step), `why_invalid`
judges every row that is read, so that a new column or a new kind of node changes one place of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args

if TYPE_CHECKING:
    from stepwell.core.state import RunState
    from stepwell.errors import Failure

RowKind: TypeAlias = str
"""The kinds of node have those of their rows (`Kind.row_kinds`); a choice, an undoing and a sub-step have one each."""
CHOICE: RowKind = "route"
UNDOING: RowKind = "compensate"
REFUSAL: RowKind = "signal"
"""Of a payload that its wait refused, whatever kind of node waits."""
SUB_STEP: RowKind = "sub"
Phase: TypeAlias = Literal["choose", "do", "undo"]
"""The part of a node's work."""
RowStatus: TypeAlias = Literal["completed", "failed", "skipped", "retrying", "suspended", "refused"]

ASKED = b"when"
"""The detail of a failed attempt at a node's condition: no answer was given yet."""
ASKED_AGAIN = b"when again"
"""The same, where the condition had held before and the handler may have been called then."""
UNCALLED = b"uncalled"
"""The detail of a failed attempt, or of a failure for good, of work whose handler was certainly never called."""
_CONDITIONS = frozenset({ASKED, ASKED_AGAIN})
_DETAILS = frozenset({None, ASKED, ASKED_AGAIN, UNCALLED})
_PHASES, _STATUSES = (frozenset(get_args(words)) for words in (Phase, RowStatus))
_ATTEMPTS = frozenset({"retrying", "suspended", "refused"})
_ERRORS = frozenset({"retrying", "failed", "refused"})


class JournalRow(NamedTuple):
    """One entry of a run's journal; instants in microseconds since 1970.

    `ref` is the store's own name of the run; `name` that of a sub-step, '' for the work itself.
    """

    ref: int
    seq: int
    node: str
    item: str
    phase: Phase
    n: int
    kind: RowKind
    attempt: int
    status: RowStatus
    value: bytes | None
    detail: bytes | None
    error: Failure | None
    retry_at: int | None
    started_at: int
    finished_at: int
    worker: str
    name: str = ""


class Work(NamedTuple):
    """One piece of work, which a call attempts and rows record: the journal's key without the attempt."""

    node: str
    item: str = ""
    phase: Phase = "do"
    kind: RowKind = "step"

    @property
    def name(self) -> str:
        """What the user calls it: the entry's name in a parallel, the node's elsewhere."""
        return self.item if self.item and not self.item.startswith("#") else self.node


def item_of(iteration: int) -> str:
    """How a loop's iteration is named in the journal's key: in the order of numbers; no entry's name can begin so."""
    return f"#{iteration:09}"


def iteration_of(item: str) -> int | None:
    """The iteration that a journal key's item names, or None."""
    return int(item[1:]) if item.startswith("#") else None


def is_of_condition(row: JournalRow) -> bool:
    """Whether it is a failed attempt at a node's condition."""
    return row.n > 0 and row.detail in _CONDITIONS


def key_of(run_id: str, work: Work, entries: int = 0) -> str:
    """The idempotency key of an entry of the work; no name has a slash or a tilde, so it is of this work alone."""
    parts = [run_id, work.node]
    if work.item:
        iteration = iteration_of(work.item)
        parts.append(work.item if iteration is None else f"#{iteration}")
    if work.phase != "do":
        parts.append(f"~{work.phase}")
    if entries:
        parts.append(f"~{entries}")
    return "/".join(parts)


def name_of(row: JournalRow) -> str:
    """The row's node, or its entry of a parallel."""
    return row.item if row.item and not row.item.startswith("#") else row.node


def new_row(  # noqa: PLR0917  the facts of every row, on the hot path
    state: RunState,
    work: Work,
    status: RowStatus,
    attempt: int,
    started_at: int,
    finished_at: int,
    value: bytes | None = None,
    detail: bytes | None = None,
    error: Failure | None = None,
    retry_at: int | None = None,
) -> JournalRow:
    """The next row of the run: an outcome, or for the statuses of an attempt the next row before the outcome."""
    return JournalRow(
        state.ref,
        state.seq + 1,
        work.node,
        work.item,
        work.phase,
        state.progress_of(work).n + 1 if status in _ATTEMPTS else 0,
        work.kind,
        attempt,
        status,
        value,
        detail,
        error,
        retry_at,
        started_at,
        finished_at,
        state.worker,
    )


def sub_step_row(  # noqa: PLR0917  the facts of a row
    state: RunState,
    work: Work,
    name: str,
    attempt: int,
    value: bytes,
    digest: bytes | None,
    started_at: int,
    finished_at: int,
) -> JournalRow:
    """The row of a sub-step's value; `digest`: that of its arguments."""
    return JournalRow(
        state.ref,
        state.seq + 1,
        work.node,
        work.item,
        work.phase,
        0,
        SUB_STEP,
        attempt,
        "completed",
        value,
        digest,
        None,
        None,
        started_at,
        finished_at,
        state.worker,
        name,
    )


def completed_row(state: RunState, node: str, value: bytes, started_at: int, finished_at: int) -> JournalRow:
    """The row of a plain step's value: what `new_row` gives for a first attempt, a little cheaper."""
    return JournalRow(
        state.ref,
        state.seq + 1,
        node,
        "",
        "do",
        0,
        "step",
        1,
        "completed",
        value,
        None,
        None,
        None,
        started_at,
        finished_at,
        state.worker,
    )


def why_invalid(state: RunState, row: JournalRow, *, is_after_gap: bool = False) -> str | None:
    """Why the row cannot be the next one of this run, or at least come after a gap; None if it can."""
    reason = why_malformed(row, row.seq if is_after_gap else state.seq + 1)
    if reason is not None:
        return reason
    if row.phase == "undo":
        return None if _undoes_the_newest(state, row) else f"row {row.seq} undoes {row.node!a} out of order"
    if state.at_end or state.node.name != row.node:
        return f"row {row.seq} is of node {row.node!a}, which is not where the run is"
    if row.name:
        fits = state.kind.has_sub_steps(state.node, state, row) and _is_new_sub_step(state, row)
        return None if fits else f"row {row.seq} is a sub-step that cannot come there in node {row.node!a}"
    kind, node = state.kind, state.node
    if row.status == "refused":
        return None if _refuses(state, row) else f"row {row.seq} refuses a payload that node {row.node!a} cannot take"
    if row.kind not in kind.row_kinds:
        return f"row {row.seq} has the kind {row.kind!a}, which this version of stepwell does not know"
    if _continues(state, row) and kind.accepts(node, state, row, is_after_gap=is_after_gap):
        return None
    return f"row {row.seq} cannot come there in node {row.node!a}"


def why_malformed(row: JournalRow, place: int) -> str | None:
    """Why no workflow can have this row at that place of a journal, or None."""
    if row.seq != place:
        return f"row {place} is missing" if row.seq > place else f"there are two rows {row.seq}"
    for what, word, known in (("status", row.status, _STATUSES), ("phase", row.phase, _PHASES)):
        if word not in known:
            return f"row {row.seq} has the {what} {word!a}, which this version of stepwell does not know"
    return f"row {row.seq} is no whole {row.status} row" if _is_misshapen(row) else None


def _is_misshapen(row: JournalRow) -> bool:
    if row.name or row.kind == SUB_STEP:
        return not _is_whole_sub_step(row)
    valued = row.status in {"suspended", "refused"} or (row.status == "completed" and row.phase != "undo")
    return (
        (row.n > 0) is not (row.status in _ATTEMPTS)
        or row.n < 0
        or row.attempt < 1
        or (row.value is not None) is not valued
        or (row.error is not None) is not (row.status in _ERRORS)
        or (row.n > 0 and row.detail not in _DETAILS and not _counts_refusals(row))
    )


def _counts_refusals(row: JournalRow) -> bool:
    """Whether it is the last refused row of its wait, whose detail counts the payloads that were refused after it."""
    return row.status == "refused" and row.detail is not None and row.detail.isdigit()


def _refuses(state: RunState, row: JournalRow) -> bool:
    """Whether the row's work waits for a signal, so that a payload may be refused."""
    progress = state.progress_of(Work(row.node, row.item))
    waits = not row.item and state.kind.signals(state.node)
    may_wait = bool(waits) or progress.snapshot is not None
    return may_wait and row.kind == REFUSAL and row.phase == "do" and _continues(state, row)


def _is_whole_sub_step(row: JournalRow) -> bool:
    return (
        (row.kind, row.status, row.n, row.error, row.retry_at) == (SUB_STEP, "completed", 0, None, None)
        and bool(row.name)
        and row.phase != "choose"
        and row.value is not None
        and row.attempt >= 1
    )


def _is_new_sub_step(state: RunState, row: JournalRow) -> bool:
    """Whether the work has no outcome yet, and no sub-step of that name."""
    progress = state.progress_of(Work(row.node, row.item, row.phase))
    return progress.outcome is None and row.name not in (progress.sub_steps or ())


def _undoes_the_newest(state: RunState, row: JournalRow) -> bool:
    if (state.failed is None and not state.is_canceling) or not state.undoable:
        return False
    progress = state.progress_of(Work(row.node, row.item, "undo"))
    # Which of the rows have a compensator is not known without the workflow's code.
    undoable = state.undoable[-1:] if state.plan.has_code else state.undoable
    fits = any((done.node, done.item) == (row.node, row.item) for done in undoable)
    if row.name:
        return fits and _is_new_sub_step(state, row)
    return fits and row.kind == UNDOING and row.n in {0, progress.n + 1}


def _continues(state: RunState, row: JournalRow) -> bool:
    """Whether the work has no outcome yet, and the row is its next attempt or its outcome."""
    progress = state.progress_of(Work(row.node, row.item, row.phase))
    return progress.outcome is None and row.n in {0, progress.n + 1}
