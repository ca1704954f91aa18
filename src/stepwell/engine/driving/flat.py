"""The flat path: the runs of a worker whose next step is plain, driven together and without a task for each.

One task calls the handlers of all runs that are ready, one after the other, each in a spare task and a context of its
own; what they give becomes one row and one advance each, which the committer sends with those of the others. The answer
makes the run ready again. So a step costs no decision, generator, future or turn of the event loop.

Rule 1: a run is called only when its last row is committed (I2), and has at most one unanswered commit. Rule 2: what
is not usual leaves: the worker makes a `Drive` of the run, from where it stands, and that goes on as the only path that
knows everything. Rule 3: a handler that waits makes its run a task, which ends with the handler. Rule 4: after
`turn_seconds` of handlers the event loop's other work has its turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from stepwell.core.flat import PlainCall
from stepwell.core.journal import completed_row
from stepwell.core.state import apply_plain, reopen, set_status
from stepwell.engine.driving.attempts import Begun
from stepwell.engine.driving.committer import RefusedError
from stepwell.engine.driving.ends import end_of_child
from stepwell.engine.driving.flat_run import NOTHING, FlatRun
from stepwell.engine.driving.stored_run import APPLIED
from stepwell.engine.driving.user_code import RunningFunction
from stepwell.errors import PayloadError
from stepwell.runtime.threads import ClosedError, Returned
from stepwell.store.background import begin
from stepwell.store.records import Advance
from stepwell.workflow.context import Context
from stepwell.workflow.policy import Suspended

if TYPE_CHECKING:
    from stepwell.core.flat import PlainStep
    from stepwell.engine.driving.held_runs import HeldRuns, Holder
    from stepwell.engine.driving.perform import Performer
    from stepwell.store.records import Verdict
    from stepwell.workflow.declared import DeclaredType

_NEVER_SUSPEND = frozenset({str, int, float, bool, list, type(None)})


class FlatRuns:
    """The runs of one worker session that are on the flat path."""

    def __init__(self, owner: Holder, held: HeldRuns) -> None:
        self._owner = owner
        self._held = held
        self.performer: Performer = owner.performer
        self._observers = owner.observers
        self._runtime = owner.runtime
        self._ready: deque[FlatRun] = deque()
        self._task: asyncio.Task[None] | None = None

    def add(self, run: FlatRun) -> None:
        """Takes on a run that is at a plain step."""
        run.runs = self
        self._make_ready(run)

    def settle(self, run: FlatRun, verdict: Verdict) -> None:
        """Takes the store's verdict on a run's advance."""
        run.is_committing = False
        if run.is_over:
            return
        if verdict == "cancel":
            reopen(run.state, "running")
            run.ask_cancel()
            self.leave(run)
            return
        if verdict not in APPLIED:
            self.let_go(run)
            return
        run.note_stored(run.advance)
        if run.advance.ended:
            self.let_go(run)
            return
        self._make_ready(run)

    def leave(self, run: FlatRun, already: Begun | RefusedError | None = None) -> None:
        """Has a drive go on with the run."""
        run.is_over = True
        self._free_slot(run)
        self._held.drive(run, already)

    def let_go(self, run: FlatRun) -> None:
        """Forgets the run, unless it has left already."""
        if run.is_over:
            return
        run.is_over = True
        if run.asked is not None:
            run.call = None
            run.asked.close()
        self._free_slot(run)
        self._held.let_go(run)

    def _free_slot(self, run: FlatRun) -> None:
        if run.has_slot:
            run.has_slot = False
            self.performer.slots.give_back()

    def _make_ready(self, run: FlatRun) -> None:
        self._ready.append(run)
        if self._task is None or self._task.done():  # other code may have cancelled it before its first step
            self._task = begin(self._work, name="stepwell-steps")

    async def _work(self) -> None:
        """Calls handlers as long as runs are ready."""
        try:
            while self._ready:
                self._take_turn()
                if self._ready:
                    await asyncio.sleep(0)  # noqa: TID251  a turn of the loop, no time
        except asyncio.CancelledError:  # by code that cancels all tasks: those that are ready would never be called
            ready, self._ready = self._ready, deque()
            for run in ready:
                if not run.is_over:
                    self.let_go(run)
                    self._held.canceled_by_others(run)
            raise
        finally:
            self._task = None
            if self._ready:  # the interpreter's Ctrl-C came while a handler was called; the loop may go on
                self._task = begin(self._work, name="stepwell-steps")

    def _take_turn(self) -> None:
        ready, monotonic = self._ready, self._runtime.monotonic
        until = monotonic() + self._runtime.tuning.turn_seconds
        while ready:
            run = ready.popleft()
            if run.is_over:
                continue
            try:
                if run.given is NOTHING:
                    self._call(run)
                else:
                    given, run.given = run.given, NOTHING
                    self._take_in(run, given)
            except Exception as error:  # noqa: BLE001  one run's fault must not stop the others
                self.let_go(run)
                self._held.stumbled(run, error)
            except BaseException:
                self.let_go(run)
                raise
            if monotonic() >= until:
                return

    def _call(self, run: FlatRun) -> None:
        """Calls the handler of the run's next step, if that may begin now."""
        owner, state, performer = self._owner, run.state, self.performer
        step = run.plan.plain[state.position]
        assert step is not None  # noqa: S101  a run whose next node is not plain has left
        is_crowded = owner.room.others_wait or owner.room.is_crowded
        if owner.is_stopping or (is_crowded and not run.has_slot and run.stay.ends()) or state.is_canceling:
            self.leave(run)
            return
        if not run.has_slot:
            run.has_slot = performer.slots.take_free()
        if not run.has_slot:
            self._begin_waiter(run, begin(self._wait_for_slot, run, name=f"stepwell-run-{run.lease.run_id}"))
            return
        lease = run.lease
        call = PlainCall(lease.run_id, step.name, state.results)
        started_at = run.started_at = run.clock.now()
        if run.stay.first_call_at is None:
            run.stay.first_call_at = started_at
        if self._observers.attempt_started:
            run.telling.begins((call,), started_at)
        context: Context[Any] = Context(lease.run_id, owner.readings.of(run.plan), call, lease.value, owner.channels)
        run.call = call
        given = performer.user_code.start(performer.context.copy(), step.handler, context)
        if run.is_over:  # its handler canceled it, for which a store in memory needs no wait
            if type(given) is RunningFunction:
                given.carrier.cancel()
            return
        if type(given) is RunningFunction:
            task = begin(self._follow, run, step, given, name=f"stepwell-run-{lease.run_id}")
            self._begin_waiter(run, task, given)
            return
        self._free_slot(run)
        self._take_in(run, given)

    def _take_in(self, run: FlatRun, given: object) -> None:
        """Makes a row of what a handler gave, and has it committed; what is no plain value leaves."""
        run.call = None
        state = run.state
        step = run.plan.plain[state.position]
        assert step is not None  # noqa: S101  as above
        if isinstance(given, RefusedError):
            self.leave(run, given)
            return
        if isinstance(given, Returned):
            self.leave(run, Begun(run.started_at, given))
            return
        if run.asked is not None:
            self.leave(run, Begun(run.started_at, Returned(given)))
            return
        if type(given) not in _NEVER_SUSPEND and _may_suspend(given, step.type):
            self.leave(run, Begun(run.started_at, Returned(given)))
            return
        try:
            value = self._owner.codec.encode(given, step.place, step.type)
        except PayloadError:
            self.leave(run, Begun(run.started_at, Returned(given)))
            return
        row = completed_row(state, step.name, value, run.started_at, run.clock.now())
        apply_plain(state, step, row)
        run.pending = [row]
        if state.position == len(run.plan.plain):
            set_status(state, "completed")
        elif run.plan.plain[state.position] is None:
            self.leave(run)
            return
        self._commit(run, len(value))

    def _commit(self, run: FlatRun, size: int) -> None:
        state, lease = run.state, run.lease
        advance = Advance(
            lease.run_id, lease.ref, lease.token, run.stored_seq, run.pending, state.position, state.status
        )
        if state.status == "completed":
            advance.release = advance.ended = True
            if lease.parent_id is not None:
                advance.child_end = end_of_child(lease, state.values.join(state.results), None, self._owner.codec)
        else:
            advance.lean = run.stored_status == "running"
        advance.usual = advance.lean or (advance.ended and advance.child_end is None)
        run.advance = advance
        run.is_committing = True
        self._owner.submit(advance, size, run)

    async def _wait_for_slot(self, run: FlatRun) -> None:
        """Waits until the run may make a call."""
        run.has_waiter_begun = True
        if run.is_stopped:
            return
        try:
            await self.performer.slots.take()
            run.has_slot = True
        except ClosedError:  # the worker stops, and the run leaves for that when it is ready
            pass

    async def _follow(self, run: FlatRun, step: PlainStep, started: RunningFunction) -> None:
        """Waits for the end of a handler that waits, and keeps what it gave."""
        run.has_waiter_begun = True
        if run.is_stopped or run.is_canceled:
            started.carrier.cancel()
        performer = self.performer
        limit = performer.limit_of(step.policy.timeout)
        left = max(0.0, limit - (run.clock.now() - run.started_at) / 1_000_000)
        returned = await performer.end_of(started, f"stepwell-run-{run.lease.run_id}/{step.name}", limit, left)
        if run.is_canceled:
            returned = Returned(None, asyncio.CancelledError())
        run.given = returned if returned.error is not None else returned.value
        if run.asked is not None:
            run.call = None
            try:
                await run.asked.quiet()
            except RefusedError as error:
                run.given = error

    def _begin_waiter(self, run: FlatRun, task: asyncio.Task[None], started: RunningFunction | None = None) -> None:
        run.waiter, run.has_waiter_begun, run.in_flight = task, False, started
        task.add_done_callback(partial(self._end_waiter, run, started))

    def _end_waiter(self, run: FlatRun, started: RunningFunction | None, task: asyncio.Task[None]) -> None:
        """The run's task has ended: it is ready again, unless the task was cancelled."""
        run.waiter = run.in_flight = None
        if started is not None:
            self._free_slot(run)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if started is None and run.state.is_canceling and not run.is_stopped and task.cancelled():
            self.leave(run)  # it does not wait for a slot any more
            return
        if error is None and not run.is_stopped:
            self._make_ready(run)
            return
        if started is not None and not run.has_waiter_begun:
            started.carrier.cancel()
        self.let_go(run)
        if isinstance(error, asyncio.CancelledError | ClosedError):
            if not run.is_stopped:
                self._held.canceled_by_others(run)
        elif error is not None:
            self._held.stumbled(run, error)


def _may_suspend(given: object, declared: DeclaredType | None) -> bool:
    """Whether the general path may take it for a suspension, or has to find out why it cannot be kept."""
    if type(given) is not dict:
        return declared is None or isinstance(given, Suspended | dict)
    try:
        status = given.get("status")
    except Exception:  # noqa: BLE001  keys of the user's may raise anything when they are compared
        return True
    return status is not None and (type(status) is not str or status == "suspended")
