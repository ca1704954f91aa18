"""Why a run is not moving, from stored rows alone: one pure function of a run, the workers and the store's instant.

The questions are asked in an order in which the first answer is the reason. Are the rows understood? Has the run ended?
Does a worker hold it, and is that worker alive? If the run is due: does a living worker serve its queue, does one have
its definition, did workers die of the run, has one room? If it is not due: what does its row wait for?
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from stepwell.core.journal import iteration_of
from stepwell.core.plan import difference
from stepwell.core.statuses import ENDED
from stepwell.engine.driving.suspects import SUSPECT_FROM
from stepwell.engine.wording import clock_text, error_text
from stepwell.errors import stored_value_error
from stepwell.reading.explanations import STUCK, Action, Explanation, Part, Reason
from stepwell.reading.snapshots import listed
from stepwell.store.outlines import read_outline
from stepwell.store.records import AT_ONCE
from stepwell.workflow.durations import moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from stepwell.core.journal import JournalRow
    from stepwell.reading.records import RunSnapshot
    from stepwell.store.protocol import Store
    from stepwell.store.records import Child, Definition, RunRow, Situation, WorkerRow

_in_a_line = partial(error_text, longest=200)
_MOST_NAMED = 5
_KEPT = STUCK | {Reason.COMPENSATING, Reason.RETRYING}
"""The reasons that stay although a cancel was requested."""


class Name(str):
    """A piece of a sentence that is a name."""

    __slots__ = ()


_Pieces: TypeAlias = list[str]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is there beside the run: the workers that are alive, whom they hold and serve, and the instant."""

    now: int
    max_crashes: int
    workers: Mapping[str, WorkerRow]
    alive: Sequence[WorkerRow]
    held: Mapping[str, int]
    served: Mapping[int, Definition]

    def serving(self, lane: int) -> list[WorkerRow]:
        """The workers alive that serve the lane."""
        return [worker for worker in self.alive if lane in worker.offer.lanes]

    def definitions(self) -> list[tuple[int, Definition]]:
        """What the workers alive serve, the newest lane first."""
        lanes = {lane for worker in self.alive for lane in worker.offer.lanes}
        return sorted(((lane, one) for lane, one in self.served.items() if lane in lanes), reverse=True)


async def explained(store: Store, run_ids: Sequence[str], max_crashes: int) -> dict[str, Explanation]:
    """Why each of these runs is not moving; two questions to the store, however many there are."""
    situation = await store.reader.situation(run_ids)
    return explanations(situation, await store.workers(), shared=store.shared, max_crashes=max_crashes)


def explanations(
    situation: Situation, workers: Sequence[WorkerRow], *, shared: bool, max_crashes: int
) -> dict[str, Explanation]:
    """Why each of these runs is not moving, by run id."""
    alive = [worker for worker in workers if not worker.dead and (not shared or not _is_silent(worker))]
    around = Surroundings(
        situation.now,
        max_crashes,
        {worker.worker_id: worker for worker in workers if not worker.dead},
        alive,
        situation.held,
        situation.served,
    )
    page = situation.page
    children: dict[str, list[Child]] = {}
    for child in situation.children:
        children.setdefault(child.parent_id, []).append(child)
    return {
        run.run_id: explanation(run, seen, page.retries.get(run.run_id), children.get(run.run_id, ()), around)
        for run, seen in zip(page.runs, listed(page), strict=True)
    }


def explanation(
    run: RunRow, seen: RunSnapshot, retry: JournalRow | None, children: Sequence[Child], around: Surroundings
) -> Explanation:
    """Why this run is not moving; `seen` is what a list shows of it."""
    if seen.damaged is not None and run.status != "canceled":
        return _damaged(run, seen.damaged, around)
    if run.status in ENDED:
        return _ended(run, seen)
    why = _why_it_waits(run, seen, retry, children, around)
    return why if run.cancel_requested_at is None else _to_be_canceled(why, run.cancel_requested_at)


def _why_it_waits(
    run: RunRow, seen: RunSnapshot, retry: JournalRow | None, children: Sequence[Child], around: Surroundings
) -> Explanation:
    if run.worker is not None:
        return _held(run, seen, retry, around)
    if run.due_at is not None and run.due_at <= around.now:
        return _due(run, around)
    waiting = _waiting(run, seen, retry, children)
    return waiting if around.serving(run.lane) else _with_note(waiting, _unserved(run, around)[1])


def _to_be_canceled(why: Explanation, since: int) -> Explanation:
    """The same of a run that is to be undone and canceled: that is the reason where nothing else keeps it from it."""
    said = Part(f"Its cancel was requested at {_clock(since)}; it is undone first, and what is in flight is canceled. ")
    parts, sentence = (said, *why.parts), said.text + why.sentence
    if why.reason in _KEPT:
        return replace(why, sentence=sentence, parts=parts)
    brief = f"to be canceled, {why.brief}"
    return Explanation(Reason.CANCEL_REQUESTED, sentence, _moment(since), why.until, parts, brief, why.actions)


def _is_silent(worker: WorkerRow) -> bool:
    return 0 < worker.offer.lease < worker.silent_for


def _damaged(run: RunRow, why: str, around: Surroundings) -> Explanation:
    reason, brief, begins = Reason.DAMAGED, "damaged", "Its stored rows are not understood"
    if stored_value_error(run.run_id, why) is not None:
        reason, brief, begins = Reason.VALUE_DOES_NOT_DECODE, "a value does not decode", "A stored value cannot be used"
    pieces = [f"{begins}: {why}."]
    if run.status in ENDED:
        return _explained(reason, pieces, brief, run.updated_at, None, _journal(run))
    until = None
    if run.damaged is not None and run.due_at is not None and run.due_at > around.now:
        until = run.due_at
        pieces.append(
            f" It is parked as it is: a worker looks at it again at {_clock(until)}, and one of another release"
        )
        pieces.append(" or of other definitions at once.")
    return _explained(reason, pieces, brief, run.updated_at, until, _journal(run), _cancel(run))


def _ended(run: RunRow, seen: RunSnapshot) -> Explanation:
    pieces: _Pieces = [f"It {'was ' if run.status == 'canceled' else ''}{run.status}"]
    actions = [_journal(run)]
    if run.status == "failed" and seen.error is not None:
        pieces += [" at ", Name(seen.error.node), f": {_in_a_line(seen.error)}"]
    pieces.append(".")
    if seen.failed_compensations:
        pieces.append(" Not undone, since their compensators failed: ")
        pieces += [*_listed(seen.failed_compensations), "."]
    return _explained(Reason.ENDED, pieces, run.status, run.finished_at, None, *actions)


def _held(run: RunRow, seen: RunSnapshot, retry: JournalRow | None, around: Surroundings) -> Explanation:
    worker = around.workers.get(run.worker or "")
    node = Name(seen.current_node or "its end")
    if worker is None or worker not in around.alive:
        if worker is None:
            pieces: _Pieces = ["Worker ", Name(run.worker or ""), ", which holds it at ", node, ", is dead"]
            since = None
        else:
            pieces = ["Worker ", *_worker(worker), ", which holds it at ", node, ", is silent"]
            since = around.now - worker.silent_for
        pieces.append("; another worker takes over as soon as it sees that.")
        return _explained(Reason.WORKER_SILENT, pieces, f"silent worker, at {node}", since, None, _start_worker(run))
    undoes = run.status == "compensating"
    pieces = ["It is undoing what completed" if undoes else "It is at ", *([] if undoes else [node])]
    pieces += [f", attempt {seen.attempt or 1}, on worker ", *_worker(worker)]
    if retry is not None and retry.error is not None:
        pieces += [f", after attempt {retry.attempt} of ", Name(_of(retry)), f" failed: {_in_a_line(retry.error)}"]
    pieces.append(".")
    reason = Reason.COMPENSATING if undoes else Reason.RUNNING_HANDLER
    brief = "undoing" if undoes else f"at {node}, attempt {seen.attempt or 1}"
    return _explained(reason, pieces, brief, run.updated_at, None, _cancel(run))


def _due(run: RunRow, around: Surroundings) -> Explanation:
    serving = around.serving(run.lane)
    if not serving:
        reason, pieces = _unserved(run, around)
        brief = "no worker" if reason is Reason.DUE_NO_WORKER else "no worker has its definition"
        return _explained(
            reason, ["It is due. ", *pieces], brief, _due_since(run), None, _start_worker(run), _cancel(run)
        )
    if run.crashes >= SUSPECT_FROM:
        left = max(around.max_crashes - run.crashes, 0)
        pieces = [
            f"{run.crashes} workers died while they held it, with nothing of it journaled in between. It is due; "
        ]
        pieces.append(f"few such runs are claimed at a time. After {left} more deaths its node fails for good.")
        brief = f"suspect: {run.crashes} workers died"
        return _explained(Reason.SUSPECT, pieces, brief, _due_since(run), None, _cancel(run))
    held = sum(around.held.get(worker.worker_id, 0) for worker in serving)
    room = sum(2 * worker.offer.concurrency for worker in serving)
    pieces = ["It is due, and waits for its turn at worker ", *_listed([worker.worker_id for worker in serving])]
    pieces.append(f", holding {held:,} of at most {room:,} runs.")
    return _explained(Reason.WORKERS_FULL, pieces, "waits for its turn", _due_since(run), None, _cancel(run))


def _unserved(run: RunRow, around: Surroundings) -> tuple[Reason, _Pieces]:
    """Why no worker alive can claim it, whether it is due or not."""
    served = around.definitions()
    queues = sorted({one.lane.queue for _, one in served})
    if run.queue not in queues:
        pieces: _Pieces = ["No living worker serves its queue ", Name(run.queue)]
        pieces += ["; those alive serve: ", *_listed(queues), "."] if queues else ["; none is alive."]
        return Reason.DUE_NO_WORKER, pieces
    of_queue = [one for _, one in served if one.lane.queue == run.queue]
    pieces = ["No living worker has its definition (", Name(run.workflow), " ", Name(run.fingerprint[:8]), ")"]
    same = next((one for one in of_queue if one.lane.workflow == run.workflow), None)
    if same is None:
        return Reason.NO_WORKER_HAS_DEFINITION, [
            *pieces,
            ": those of its queue do not know this workflow, but ",
            *_listed(sorted({one.lane.workflow for one in of_queue})),
            ".",
        ]
    where = _difference(run.outline, same.outline)
    pieces += [": those alive have ", Name(same.lane.fingerprint[:8]), f", where {where}."]
    return Reason.NO_WORKER_HAS_DEFINITION, pieces


def _waiting(run: RunRow, seen: RunSnapshot, retry: JournalRow | None, children: Sequence[Child]) -> Explanation:
    node = Name(seen.current_node or "its end")
    signals = seen.awaiting_signals
    if run.status == "suspended" and signals:
        pieces: _Pieces = ["It waits at ", node, f" for signal{'s' if len(signals) > 1 else ''} ", *_listed(signals)]
        pieces.append("." if run.wake_at is None else f", until {_clock(run.wake_at)}.")
        brief = f"signal {signals[0]}" + (f" and {len(signals) - 1} more" if len(signals) > 1 else "")
        actions = [*_sends(run, signals), _cancel(run)]
        return _explained(Reason.AWAITING_SIGNAL, pieces, brief, run.updated_at, run.wake_at, *actions)
    if run.status == "suspended":
        return _awaiting_child(run, node, children)
    if run.due_at is None:
        pieces = ["Nothing that is stored would ever move it: it is neither due nor waits for anything."]
        again = Action("recover", "Make it due", "stepwell recover", "confirm")
        return _explained(Reason.DAMAGED, pieces, "stranded", run.updated_at, None, again)
    if run.status == "pending":
        pieces = [f"It starts at {_clock(run.due_at)}."]
        return _explained(Reason.DELAYED, pieces, "delayed", run.created_at, run.due_at, _cancel(run))
    if retry is not None and retry.error is not None:
        what: _Pieces = ["The compensator of ", Name(_of(retry))] if retry.phase == "undo" else [Name(_of(retry))]
        pieces = [
            *what,
            f": attempt {retry.attempt} failed with {_in_a_line(retry.error)}; next try at {_clock(run.due_at)}.",
        ]
        pieces += [" It waits for ", *_listed(signals), ", too."] if signals else []
        undoes = "undoing " if retry.phase == "undo" else ""
        brief = f"attempt {retry.attempt} of {undoes}{_of(retry)} failed"
        actions = [_journal(run), *_sends(run, signals), _cancel(run)]
        return _explained(Reason.RETRYING, pieces, brief, retry.finished_at, run.due_at, *actions)
    if run.wake_at is None:
        pieces = [f"A worker could not go on with it, and put it off until {_clock(run.due_at)}; its log says why."]
        return _explained(Reason.DAMAGED, pieces, "put off", run.updated_at, run.due_at, _journal(run))
    pieces = ["It sleeps at ", node, f" until {_clock(run.due_at)}."]
    return _explained(Reason.SLEEPING, pieces, f"sleeps at {node}", run.updated_at, run.due_at, _cancel(run))


def _awaiting_child(run: RunRow, node: Name, children: Sequence[Child]) -> Explanation:
    pieces: _Pieces = ["It waits at ", node, " for its child run"]
    actions = []
    reason, brief = Reason.AWAITING_CHILD, f"child at {node}"
    for child in children[-1:]:
        pieces += [" ", Name(child.run_id), " (", Name(child.workflow), f", {child.status})"]
        actions.append(Action("child", "Why the child is not moving", f"stepwell why {child.run_id}", "link"))
        if child.damaged is not None:
            reason, brief = Reason.DAMAGED, f"damaged child at {node}"
            pieces.append(f", whose stored rows are not understood: {child.damaged}")
            actions.append(Action("cancel_child", "Cancel the child", f"stepwell cancel {child.run_id}", "confirm"))
    pieces.append(".")
    return _explained(reason, pieces, brief, run.updated_at, None, *actions, _cancel(run))


def _explained(
    reason: Reason, pieces: Iterable[str | Name], brief: str, since: int | None, until: int | None, *actions: Action
) -> Explanation:
    parts = tuple(Part(str(piece), isinstance(piece, Name)) for piece in pieces if piece)
    sentence = "".join(part.text for part in parts)
    return Explanation(reason, sentence, _moment(since), _moment(until), parts, brief, actions)


def _with_note(of: Explanation, note: Iterable[str | Name]) -> Explanation:
    """The same, and that no worker will go on with the run when the wait is over."""
    parts = (*of.parts, Part(" "), *(Part(str(piece), isinstance(piece, Name)) for piece in note if piece))
    sentence = "".join(part.text for part in parts)
    return Explanation(of.reason, sentence, of.since, of.until, parts, of.brief, of.actions)


def _difference(old: bytes | None, new: bytes) -> str:
    try:
        return difference(read_outline("", old or b""), read_outline("", new)) or "nothing that is shown differs"
    except ValueError:
        return "its nodes cannot be read"


def _worker(worker: WorkerRow) -> _Pieces:
    return [Name(worker.worker_id), f" (host {worker.host}, process {worker.pid})"]


def _of(row: JournalRow) -> str:
    try:
        iteration = iteration_of(row.item)
    except ValueError:  # changed by hand
        iteration = None
    return row.item or row.node if iteration is None else f"{row.node} #{iteration}"


def _due_since(run: RunRow) -> int | None:
    """Since when it is due; what is due at once has a turn instead of an instant, given when its row was written."""
    return run.due_at if run.due_at is None or run.due_at > AT_ONCE else run.updated_at


def _listed(names: Sequence[str]) -> _Pieces:
    """Some of the names, and how many more there are."""
    pieces: _Pieces = []
    for name in names[:_MOST_NAMED]:
        pieces += [", ", Name(name)] if pieces else [Name(name)]
    more = len(names) - _MOST_NAMED
    return [*pieces, f" and {more} more"] if more > 0 else pieces


def _clock(at: int) -> str:
    shown = _moment(at)
    return "a time that is no instant" if shown is None else clock_text(shown)


def _moment(at: int | None) -> datetime | None:
    try:
        return None if at is None else moment(at)
    except OverflowError:
        return None


def _sends(run: RunRow, signals: Sequence[str]) -> list[Action]:
    """What answers the first of the signals that it waits for."""
    return [
        Action("signal", f"Send {signal}", f"stepwell signal {run.run_id} {signal} DATA", "form")
        for signal in signals[:_MOST_NAMED]
    ]


def _cancel(run: RunRow) -> Action:
    return Action("cancel", "Cancel the run", f"stepwell cancel {run.run_id}", "confirm")


def _journal(run: RunRow) -> Action:
    return Action("journal", "Show what happened", f"stepwell journal {run.run_id}", "link")


def _start_worker(run: RunRow) -> Action:
    return Action("worker", "Start a worker", f"stepwell worker --queue {run.queue}", "link")
