"""The life of one run in a worker's hands: decide, perform, commit, until it ends, waits, or is lost.

Nothing is begun before what precedes it is committed (I2); what is decided without user code joins the commit of the
outcome before it. The state runs ahead of the store by the rows that are pending, and is dropped when a commit is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.core import compensate
from stepwell.core.attempts import failed, outcome, settled
from stepwell.core.decide import decide
from stepwell.core.decisions import (
    Call,
    Compensate,
    Complete,
    Decision,
    Fail,
    Park,
    Record,
    Spawn,
    Wait,
)
from stepwell.core.mailbox import MessageName
from stepwell.core.state import admit, apply, apply_decision, begin, end, look, set_status
from stepwell.engine.driving.attempts import Attempt, Attempts
from stepwell.engine.driving.committer import RefusedError
from stepwell.engine.driving.ends import end_of_child
from stepwell.engine.driving.failures import failure_of
from stepwell.engine.driving.restore import restored
from stepwell.engine.driving.script_tools import ScriptTools
from stepwell.engine.driving.stay import Stay
from stepwell.engine.driving.telling import Telling
from stepwell.engine.fleet.suspects import SUSPECT_FROM
from stepwell.errors import JournalError
from stepwell.runtime.threads import ClosedError
from stepwell.store.logs import logger
from stepwell.store.protocol import AT_ONCE, Advance, History, Lease, NewRun, Post, Verdict, Wanted

if TYPE_CHECKING:
    from stepwell.core.journal import JournalRow
    from stepwell.core.plan import Plan
    from stepwell.core.state import RunState
    from stepwell.engine.clock import StoreClock
    from stepwell.engine.driving.run_owner import RunOwner

_log = logger("stepwell.run")
_REFUSED_MICROS = 60_000_000
_APPLIED = frozenset({"ok", "done"})


class Drive:
    """Drives one leased run."""

    def __init__(self, owner: RunOwner, lease: Lease, plan: Plan, history: History | None, clock: StoreClock) -> None:
        self._owner = owner
        self._lease = lease
        self._plan = plan
        self._clock = clock
        self._tools = ScriptTools(owner, lease, plan, clock)
        self._now = clock.now
        self._begun = owner.runtime.monotonic()
        self._stay = Stay(owner, clock)
        self._stored_seq = lease.seq
        self._stored_status = lease.status
        self._pending: list[JournalRow] = []
        self._consumed: list[int] = []
        self._attempts = Attempts(owner, self._tools)
        self._observers = owner.observers
        self._telling = Telling(owner.observers, lease.run_id, plan.name, owner.worker_id)
        self._has_failures = False
        self.is_committing = False
        """Whether a commit is on its way, whose verdict will tell if the run was lost."""
        self.is_suspect = lease.crashes >= SUSPECT_FROM
        """Whether workers died of it, more than one, and nothing was journaled since."""
        self.is_stopped = False
        """Whether its worker cancelled it; a cancel without this mark is other code's."""
        self.size = len(lease.value) + (0 if history is None else history.size)
        """The bytes of the values that it holds."""
        self._refused = False
        self.state = self._state_from(history)

    @property
    def run_id(self) -> str:
        """The run it drives."""
        return self._lease.run_id

    @property
    def crashes(self) -> int:
        """How many workers had died of it when it was claimed, with nothing journaled in between."""
        return self._lease.crashes

    @property
    def token(self) -> int:
        """The lease under which it drives."""
        return self._lease.token

    @property
    def begun(self) -> float:
        """When its claim had been answered, in monotonic seconds: what was read of the store later must know it."""
        return self._begun

    def longest_timeout(self) -> float:
        """The most that an attempt of this run may take, in seconds."""
        return max((self._owner.performer.limit_of(node.policy.timeout) for node in self._plan.nodes), default=0.0)

    async def run(self) -> None:
        """Goes on until the run ends, waits or is lost; when cancelled, so are its handlers in flight."""
        if self._lease.token == 1:  # the first owner there ever was: every other one has raised it
            self._telling.started(self._now())
        try:
            going = True
            while going:
                moves = decide(self.state, self._now())
                move = moves[0]
                if type(move) is not Call:
                    going = await self._carry_out(move)
                elif len(moves) == 1 and not self.state.in_flight:
                    going = await self._do(move)
                else:
                    going = await self._begin([each for each in moves if type(each) is Call])
        except ClosedError:
            await self._release()
        except RefusedError as error:
            await self._fail_refused(error)
        finally:
            await self._attempts.stop()

    async def _do(self, call: Call) -> bool:
        """Performs the one call there is, once what precedes it is committed."""
        if self._pending and not await self._flush():
            return False
        if self._owner.is_stopping or self._stay.ends():
            return await self._release()
        if self._observers.attempt_started:
            self._telling.begins([call], self._now())
        over = await self._attempts.make(call)
        if over.ending is not None:
            decision = settled(self.state, call, over.ending, over.at)
            if type(decision) is Record:
                self._take_in(decision)
                return True
        return await self._settle(over)

    async def _begin(self, calls: list[Call]) -> bool:
        """Begins calls beside each other, once what precedes them is committed."""
        if self._pending and not await self._flush():
            return False
        if self._owner.is_stopping:
            return await self._wait(None) if self.state.in_flight else await self._release()
        self._telling.begins(calls, self._now())
        self._stay.ends()
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
            case Wait(until):
                return (not self._pending or await self._flush()) and await self._wait(until)
            case Compensate() if self.state.is_partial:
                return await self._read_whole()
            case Compensate():
                set_status(self.state, "compensating")
                return True
            case Park():
                return await self._park(move)
            case Spawn():
                return await self._spawn(move)
            case Complete(results):
                set_status(self.state, "completed")
                return await self._end(end_of_child(self._lease, results, None, self._owner.max_value_bytes))
            case Fail(failure):
                set_status(self.state, "failed")
                return await self._end(end_of_child(self._lease, None, failure, self._owner.max_value_bytes))
            case Call():  # pragma: no cover  the loop above takes calls for itself
                return await self._do(move)

    async def _settle(self, over: Attempt) -> bool:
        call, now = over.call, over.at
        if over.ending is None:
            failure = failure_of(over.error, call.step)
            draw = self._owner.runtime.draw()
            record = failed(self.state, call, over.error, failure, now=now, draw=draw)
            self._telling.raised(record.row, over.error)
            if record.row.status == "failed":
                self._owner.on_failure(over.error)
            return await self._carry_out(record)
        decision = settled(self.state, call, over.ending, now)
        if decision is not None:
            return await self._carry_out(decision)
        admit(self.state)
        return True

    def _take_in(self, record: Record) -> None:
        self._pending.append(record.row)
        if record.row.error is not None:
            self._has_failures = True
        if record.consumed:
            self._consumed += record.consumed
            apply_decision(self.state, record)
        else:
            apply(self.state, record.row)

    async def _wait(self, until: int | None) -> bool:
        """Waits for an attempt in flight to end, or for the instant; then takes in what has ended."""
        timeout = None if until is None else max(0.0, (until - self._now()) / 1_000_000)
        going = True
        for over in await self._attempts.ended(timeout):
            began = not isinstance(over.error, ClosedError)
            end(self.state, over.call, began=began)
            if began:
                going = await self._settle(over) and going
        return going

    async def _flush(self) -> bool:
        """Commits what is pending; the run stays here."""
        status = self.state.status
        advance = self._advance()
        advance.lean = status == self._stored_status and not self._consumed
        return await self._commit(advance) in _APPLIED

    async def _record_unless_came(self, record: Record, absent: MessageName) -> bool:
        """Commits an outcome that rests on the absence of a message; whether the run is still this drive's."""
        if await self._finds(absent):
            return True
        if self._pending and not await self._flush():
            return False
        self._pending.append(record.row)
        self._has_failures = self._has_failures or record.row.error is not None
        advance = self._advance(extra_position=1 if record.row.status == "completed" else 0)
        verdict = await self._commit(self._unless_came(advance, absent))
        if verdict in _APPLIED:
            apply_decision(self.state, record)
        elif verdict == "mail":
            self._pending.clear()
            await self._look(absent)
        else:
            return False
        return True

    async def _park(self, park: Park) -> bool:
        absent = park.absent
        if absent is not None and await self._finds(absent):
            return True
        advance = self._advance()
        advance.release = True
        advance.due_at = advance.wake_at = park.wake_at
        advance.awaiting = park.awaiting
        advance.parked_at = park.since
        if absent is not None:
            advance.status = "suspended"
            self._unless_came(advance, absent)
        verdict = await self._commit(advance)
        if verdict == "mail" and absent is not None:
            await self._look(absent)
            return True
        if verdict in {"ok", "done"}:
            apply_decision(self.state, park)
            self._telling.parked(self.state, park)
        return False

    async def _spawn(self, spawn: Spawn) -> bool:
        child = spawn.child
        lane = self._owner.child_lane(self._lease, child.workflow)
        advance = self._advance()
        advance.release = True
        advance.status = "suspended"
        advance.parked_at = spawn.since
        run_id = self._owner.runtime.new_id()
        new = NewRun(run_id, lane, child.workflow, child.value, None, 0, self._lease.run_id, child.parent_node)
        advance.spawned = (new,)
        if await self._commit(advance) in {"ok", "done"}:
            apply_decision(self.state, spawn)
        return False

    async def _end(self, post: Post | None) -> bool:
        advance = self._advance()
        advance.release = advance.ended = True
        advance.post = post
        if await self._commit(advance) in _APPLIED:
            self._telling.ended(self.state, self._now())
        return False

    async def _release(self, delay: int = 0) -> bool:
        """Gives the run back, due at once or after the delay, with all that it still waits for."""
        state, verdict = self.state, "mail"
        while verdict == "mail":
            advance = self._advance()
            advance.release = True
            advance.due_at = self._now() + delay if delay else AT_ONCE
            parked = state.parked
            name = None
            if parked is not None:
                advance.parked_at, advance.wake_at = parked.at, parked.wake_at
                name = None if parked.awaiting is None else MessageName("signal", parked.awaiting)
                if name is None or state.first_message(name) is None:
                    # It still waits. A signal that was accepted meanwhile ended that wait, and must not find it again.
                    advance.awaiting = parked.awaiting
                    if self._stored_status == "suspended" and state.status == "running":
                        advance.status = "suspended"
                    if name is not None:
                        self._unless_came(advance, name)
            verdict = await self._commit(advance)
            if verdict == "mail" and name is not None:
                await self._look(name)
        return False

    async def _fail_refused(self, error: RefusedError) -> None:
        """The store cannot keep what was to be committed: the node, or the compensator, fails with that error."""
        cause = error.__cause__ or error
        undoes = any(row.phase == "undo" for row in self._pending)
        self._pending, self._consumed = [], []
        await self._attempts.stop()
        await self._reread()
        if self._refused:
            _log.error("Run %s: the store refuses even the failure (%s); trying again in a minute.", self.run_id, cause)
            await self._release(_REFUSED_MICROS)
            return
        self._refused = True
        piece = compensate.work(self.state) if undoes else self.state.kind.next_work(self.state.node, self.state)
        failure = (type(cause).__name__, f"the store refused the outcome: {failure_of(cause, '').message}")
        row = outcome(self.state, piece, started_at=self._now(), now=self._now(), failure=failure)
        self._telling.raised(row, cause)
        self._owner.on_failure(cause)
        self._take_in(Record(row))
        await self.run()

    async def _read_whole(self) -> bool:
        """Reads what was left out when the run was claimed: all that completed is to be undone now."""
        if self._pending and not await self._flush():
            return False
        await self._reread()
        return True

    async def _reread(self) -> None:
        self.state = self._state_from(await self._owner.reload(Wanted(self._lease)))
        if self.state.seq != self._stored_seq:
            reason = f"it has {self.state.seq} rows where {self._stored_seq} were committed"
            raise JournalError(self.run_id, reason)

    async def _finds(self, name: MessageName) -> bool:
        """Looks for a message of that name where the mailbox has not been looked through yet; whether there is one."""
        return self.state.mail > self.state.known.get(name, 0) and await self._look(name)

    async def _look(self, name: MessageName) -> bool:
        found = await self._owner.find_message(self._lease, name, self.state.known.get(name, 0))
        look(self.state, name, found.mail, found.message)
        return found.message is not None

    def _unless_came(self, advance: Advance, absent: MessageName) -> Advance:
        advance.absent = absent
        advance.seen = self.state.known.get(absent, 0)
        return advance

    def _advance(self, extra_position: int = 0) -> Advance:
        lease, state = self._lease, self.state
        position = state.position + extra_position
        advance = Advance(lease.run_id, lease.ref, lease.token, self._stored_seq, self._pending, position, state.status)
        if self._consumed:
            advance.consumed = self._consumed
        return advance

    async def _commit(self, advance: Advance) -> Verdict:
        self.is_committing = True
        verdict = await self._owner.commit(advance)
        self.is_committing = False
        if verdict in _APPLIED:
            self._stored_seq += len(advance.rows)
            added = sum([len(row.value) for row in advance.rows if row.value is not None])
            self.size += added
            self._owner.memory.grow(added)
            if self.is_suspect and advance.rows:
                self.is_suspect = False
                self._owner.on_suspect_cleared()
            self._stored_status = advance.status
            if self._has_failures or self._observers.attempt_ended:
                self._has_failures = False
                self._telling.committed(advance.rows)
            self._pending = []
            if not advance.lean:
                self._consumed = []
                self._owner.on_committed(advance)
        return verdict

    def _state_from(self, history: History | None) -> RunState:
        is_new = self._stored_seq == self._lease.seq
        status, lag = self._stored_status, self._clock.lag
        return restored(self._owner, self._lease, self._plan, history, status, is_new=is_new, lag=lag)
