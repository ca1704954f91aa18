"""The life of one run in a worker's hands: decide, perform, commit, until it ends, waits, or is lost.

Nothing is begun before what precedes it is committed (I2); what is decided without user code joins the commit of the
outcome before it. The state runs ahead of the store by the rows that are pending, and is dropped when a commit is lost.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from stepwell.core import compensate
from stepwell.core.attempts import failed, given_up, settled
from stepwell.core.decide import decide
from stepwell.core.decisions import (
    Call,
    Cancel,
    Compensate,
    Complete,
    Decision,
    Fail,
    Park,
    Record,
    Spawn,
    Spawned,
    Wait,
)
from stepwell.core.state import (
    admit,
    apply,
    apply_decision,
    awaited,
    begin,
    doubt,
    end,
    reopen,
    set_status,
    stop,
)
from stepwell.engine.driving.attempts import Attempt, Attempts, Begun
from stepwell.engine.driving.committed_run import CommittedRun
from stepwell.engine.driving.committer import RefusedError
from stepwell.engine.driving.ends import canceled_child, end_of_child
from stepwell.engine.driving.failures import failure_of, is_unreadable
from stepwell.engine.driving.flat_run import FlatRun
from stepwell.engine.driving.script_tools import ScriptTools
from stepwell.engine.driving.stored_run import APPLIED
from stepwell.errors import PayloadError, StoredValueError
from stepwell.runtime.threads import ClosedError
from stepwell.store.logs import logger
from stepwell.store.records import ChildEnd, NewRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell.core.journal import JournalRow
    from stepwell.core.mailbox import MessageName
    from stepwell.core.statuses import Status
    from stepwell.engine.driving.channel import Channel
    from stepwell.engine.driving.run_owner import RunOwner
    from stepwell.workflow.context import Facts

_log = logger("stepwell.run")
_REFUSED_MICROS = 60_000_000


class Drive(CommittedRun):
    """Drives one leased run."""

    def __init__(self, owner: RunOwner, run: FlatRun) -> None:
        super().__init__(owner, run)
        self._tools = ScriptTools(owner, run.lease, run.plan, run.clock)
        self._attempts = Attempts(owner, self._tools)
        self._refused = False
        self._may_be_answered = False
        self.is_handed_on: bool = False
        """Whether the flat path goes on with the run."""
        self.is_stopped: bool = False
        """Whether its worker cancelled it; a cancel without this mark is other code's."""
        self.task: asyncio.Task[None] | None = None
        """In which it is driven."""

    def longest_timeout(self) -> float:
        """The most that an attempt of this run may take, in seconds."""
        return self._owner.performer.longest_limit(self.plan)

    @property
    def is_over(self) -> bool:
        """Whether nothing of it goes on."""
        return self.task is None or self.task.done()

    def stop(self) -> None:
        """Cancels it, on behalf of its worker."""
        self.is_stopped = True
        if self.task is not None:
            self.task.cancel()

    def look_for_answers(self) -> None:
        """Has it look at the mailbox soon, if it waits for handlers beside work that is suspended."""
        if self._may_be_answered:
            self._attempts.wake()

    def ask_cancel(self) -> None:
        """A cancel of the run was requested: what is in flight is canceled, and then the run is undone."""
        if not self.state.is_canceling:
            super().ask_cancel()
            if self.state.status != "compensating":
                _log.info("Run %s is to be canceled: what is in flight is, and then it is undone.", self.run_id)
                self._attempts.cancel()

    @property
    def is_cancelled(self) -> bool:
        """Whether its task was cancelled, and has not ended yet."""
        return self.task is not None and self.task.cancelling() > 0

    def on_flat_path(self) -> FlatRun | None:
        """The run, at a plain step and with all of its past stored, as the flat path goes on with it; else None."""
        if self.pending or self._consumed or self._attempts.are_in_flight or self.is_suspect or self.is_stopped:
            return None
        if self.stored_seq == self._left_flat_at:
            return None
        flat = FlatRun(self._owner, self.lease, self.plan, self.state, self.clock, self.stay, self.begun, self.size)
        flat.stored_seq, flat.stored_status = self.stored_seq, self.stored_status
        return flat

    @property
    def is_at_rest(self) -> bool:
        """Whether it waits for handlers, and does nothing else: then their questions are served."""
        return self._attempts.is_at_rest

    def is_in_flight(self, facts: Facts) -> bool:
        """Whether this very attempt is being made."""
        return self._attempts.is_in_flight(facts)

    def channel(self) -> Channel:
        """By which handlers in flight ask."""
        return self._attempts.channel(self)

    def keep(self, row: JournalRow) -> None:
        """Takes in a row that a handler in flight asked for."""
        self._take_in(Record(row))

    async def run(self, already: Begun | RefusedError | None = None) -> None:
        """Goes on until the run ends, waits or is lost; when cancelled, so are its handlers in flight.

        `already`: what the flat path left to it, an attempt whose handler has ended, or a commit that was refused.
        """
        try:
            if isinstance(already, RefusedError):
                raise already
            going = already is None or await self._conclude(already)
            while going:
                moves = decide(self.state, self._now())
                move = moves[0]
                if type(move) is not Call:
                    going = await self._carry_out(move)
                elif len(moves) == 1 and not self.state.in_flight and not awaited(self.state):
                    going = await self._do(move)
                else:
                    going = await self._begin([each for each in moves if type(each) is Call])
        except ClosedError:
            await self._release()
        except StoredValueError:
            # It is no attempt: the run is parked as it is, once what has ended beside it is stored.
            if not self.pending or await self.flush():
                raise
        except RefusedError as error:
            await self._fail_refused(error)
        finally:
            await self._attempts.stop()

    async def _conclude(self, begun: Begun) -> bool:
        """Goes on with an attempt at a plain step, whose handler was called on the flat path."""
        (call,) = self.state.kind.decide(self.state.node, self.state, self._now())
        assert type(call) is Call  # noqa: S101  at a usual state before a plain step there is no other decision
        return await self._settle_one(await self._attempts.make(call, begun))

    async def _do(self, call: Call) -> bool:
        """Performs the one call there is, once what precedes it is committed."""
        if self.pending and not await self.flush():
            return False
        if self._owner.takes_flat(self):
            self.is_handed_on = True
            return False
        if self._owner.is_stopping or self.stay.ends():
            return await self._release()
        if self.state.is_canceling and call.phase != "undo":
            return True
        if self._observers.attempt_started:
            self._telling.begins([call], self._now())
        return await self._settle_one(await self._attempts.make(call))

    async def _settle_one(self, over: Attempt) -> bool:
        if over.ending is not None:
            decision = settled(self.state, over.call, over.ending, over.at)
            if type(decision) is Record:
                self._take_in(decision)
                return True
        return await self._settle(over)

    async def _begin(self, calls: list[Call]) -> bool:
        """Begins calls beside each other, once what precedes them is committed."""
        if self.pending and not await self.flush():
            return False
        if self._owner.is_stopping:
            return await self._wait(None) if self.state.in_flight else await self._release()
        if self.state.is_canceling:
            return True
        self._telling.begins(calls, self._now())
        self.stay.ends()
        for call in calls:
            begin(self.state, call)
            self._attempts.begin(call)
        return True

    async def _carry_out(self, move: Decision) -> bool:  # noqa: PLR0911  one return a decision
        """Does what was decided; whether the run is still this drive's."""
        match move:
            case Record():
                if move.absent is None:
                    self._take_in(move)
                    return True
                return await self._record_unless_came(move, move.absent)
            case Wait(until, absent):
                return await self._finds(absent) or (await self._is_flushed() and await self._wait(until, absent))
            case Compensate() if self.state.is_partial:
                return await self._read_whole()
            case Compensate():
                set_status(self.state, "compensating")
                # Its status, and that it takes no more answers, is stored before the first compensator is called.
                return bool(self.pending) or await self.flush()
            case Park():
                return await self._park(move)
            case Spawn():
                return await self._spawn(move)
            case Complete(results):
                return await self._end("completed", end_of_child(self.lease, results, None, self._owner.codec))
            case Fail(failure):
                return await self._end("failed", end_of_child(self.lease, None, failure, self._owner.codec))
            case Cancel():
                return await self._end("canceled", canceled_child(self.lease))
            case Call():  # pragma: no cover  the loop above takes calls for itself
                return await self._do(move)

    async def _settle(self, over: Attempt) -> bool:
        call, now = over.call, over.at
        if self.state.is_canceling and call.phase != "undo" and isinstance(over.error, asyncio.CancelledError):
            stop(self.state, call)
            return True
        if over.ending is None:
            if is_unreadable(over.error, self.run_id):
                raise over.error
            failure = failure_of(over.error, call.step)
            draw = self._owner.runtime.draw()
            record = failed(self.state, call, over.error, failure, now=now, draw=draw)
            self._telling.keep_exception(record.row, over.error)
            return await self._carry_out(record)
        decision = settled(self.state, call, over.ending, now)
        if decision is not None:
            return await self._carry_out(decision)
        admit(self.state)
        return True

    def _take_in(self, record: Record) -> None:
        if self._counts_refusal(record):
            return
        self.pending.append(record.row)
        if record.consumed:
            self._consumed += record.consumed
            if record.row.status == "refused":
                self._freed += record.consumed
            apply_decision(self.state, record)
        else:
            apply(self.state, record.row)

    async def _wait(self, until: int | None, absent: Sequence[MessageName] = ()) -> bool:
        """Waits for an attempt in flight to end, for the instant, or for a message; then takes in what has ended.

        That a message came is heard of by a hint; the look at the mailbox from time to time is what is relied on.
        """
        timeout = None if until is None else max(0.0, (until - self._now()) / 1_000_000)
        if absent:
            longest = self._owner.runtime.tuning.answers_seconds
            timeout = longest if timeout is None else min(timeout, longest)
        going = True
        self._may_be_answered = bool(absent)
        ended = await self._attempts.ended(timeout)
        self._may_be_answered = False
        if absent and not ended:
            await self._look(absent)
        for over in ended:
            began = not isinstance(over.error, ClosedError)
            end(self.state, over.call, began=began)
            if began:
                going = await self._settle(over) and going
        return going

    async def _record_unless_came(self, record: Record, absent: MessageName) -> bool:
        """Commits an outcome that rests on the absence of a message; whether the run is still this drive's."""
        if await self._finds((absent,)):
            return True
        if self.pending and not await self.flush():
            return False
        self.pending.append(record.row)
        advance = self._advance(extra_position=1 if record.row.status == "completed" else 0)
        verdict = await self.commit(self._unless_came(advance, (absent,)))
        if verdict in APPLIED:
            apply_decision(self.state, record)
        elif verdict == "message":
            self.pending.clear()
            await self._look((absent,))
        else:
            return False
        return True

    async def _park(self, park: Park) -> bool:
        absent = park.absent
        if await self._finds(absent):
            return True
        advance = self._advance()
        advance.release = True
        advance.due_at = advance.wake_at = park.wake_at
        advance.awaiting = park.awaiting
        advance.parked_at = park.since
        if absent:
            self._unless_came(advance, absent)
            if park.since is not None:
                advance.status = "suspended"
        verdict = await self.commit(advance)
        if verdict == "message":
            await self._look(absent)
            return True
        if verdict in APPLIED:
            apply_decision(self.state, park)
            self._telling.parked(self.state, park)
        return self._was_asked(verdict)

    async def _spawn(self, spawn: Spawn) -> bool:
        child = spawn.child
        if (refused := self._refused_child(child)) is not None:
            self._take_in(refused)
            return True
        lane = self._owner.child_lane(self.lease, child.workflow)
        advance = self._advance()
        advance.release = True
        advance.status = "suspended"
        advance.parked_at = spawn.since
        run_id = self._owner.runtime.new_id()
        new = NewRun(run_id, lane, child.workflow, child.value, None, 0, self.lease.run_id, child.parent_node)
        advance.spawned = (new,)
        verdict = await self.commit(advance)
        if verdict in APPLIED:
            apply_decision(self.state, spawn)
        return self._was_asked(verdict)

    def _refused_child(self, child: Spawned) -> Record | None:
        """The failure of a node whose child would get the run's own input, which is not as the child declares it."""
        type_ = self.plan.child_types(child.workflow).input
        if type_ is None or child.value is not self.state.input:
            return None
        try:
            self._owner.codec.decode_as(type_, child.value, f"input.{child.parent_node}")
        except PayloadError as error:
            work = self.state.kind.next_work(self.state.node, self.state)
            return given_up(self.state, work, self._now(), "PayloadError", str(error))
        return None

    async def _end(self, status: Status, end: ChildEnd | None) -> bool:
        before = self.state.status
        set_status(self.state, status)
        advance = self._advance()
        advance.release = advance.ended = True
        advance.child_end = end
        verdict = await self.commit(advance)
        if verdict == "cancel":
            reopen(self.state, before)
        return self._was_asked(verdict)

    async def _fail_refused(self, error: RefusedError) -> None:
        """The store cannot keep what was to be committed: the node, or the compensator, fails with that error."""
        cause = error.__cause__ or error
        undoes = any(row.phase == "undo" for row in self.pending)
        self.drop_pending()
        await self._attempts.stop()
        await self.reread()
        doubt(self.state)
        if self._refused:
            _log.error("Run %s: the store refuses even the failure (%s); trying again in a minute.", self.run_id, cause)
            await self._release(_REFUSED_MICROS)
            return
        self._refused = True
        expected = None if self.state.at_end else self.state.kind.awaits(self.state.node)
        if expected is not None:
            await self._finds((expected,))  # a child's end tells which run it was
        piece = compensate.work(self.state) if undoes else self.state.kind.next_work(self.state.node, self.state)
        message = f"the store refused the outcome: {failure_of(cause, '').message}"
        record = given_up(self.state, piece, self._now(), type(cause).__name__, message)
        self._telling.keep_exception(record.row, cause)
        self._take_in(record)
        await self.run()
