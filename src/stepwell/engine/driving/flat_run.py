"""A run on the flat path: what is kept of it between two plain steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.core.state import apply, request_cancel
from stepwell.engine.driving.channel import Channel
from stepwell.engine.driving.stored_run import APPLIED, StoredRun
from stepwell.store.records import Advance

if TYPE_CHECKING:
    import asyncio

    from stepwell.core.journal import JournalRow
    from stepwell.core.plan import Plan
    from stepwell.core.state import RunState
    from stepwell.engine.clock import StoreClock
    from stepwell.engine.driving.committer import RefusedError
    from stepwell.engine.driving.flat import FlatRuns
    from stepwell.engine.driving.room import Stay
    from stepwell.engine.driving.run_owner import RunOwner
    from stepwell.engine.driving.user_code import RunningFunction
    from stepwell.store.records import Lease, Verdict
    from stepwell.workflow.context import Facts

NOTHING = object()
"""As `given`: no handler was called."""


class FlatRun(StoredRun):
    """One run on the flat path.

    It is always in one place: among the runs that are ready, or in its `waiter` (where its handler waits, or it
    waits for a slot), or in a commit, whose answer it takes.
    """

    __slots__ = (
        "advance",
        "asked",
        "call",
        "given",
        "has_slot",
        "has_waiter_begun",
        "in_flight",
        "is_canceled",
        "is_over",
        "is_stopped",
        "runs",
        "started_at",
        "waiter",
    )

    crashes = 0
    is_suspect = False

    def __init__(  # noqa: PLR0917  as its base
        self,
        owner: RunOwner,
        lease: Lease,
        plan: Plan,
        state: RunState,
        clock: StoreClock,
        stay: Stay,
        begun: float,
        size: int,
    ) -> None:
        super().__init__(owner, lease, plan, state, clock, stay, begun, size)
        self.advance: Advance
        self.runs: FlatRuns
        self.given: object = NOTHING
        """What the handler gave that was called last, until it is looked at."""
        self.started_at: int = 0
        self.call: Facts | None = None
        """The attempt whose handler was called, until that has ended."""
        self.asked: Channel | None = None
        """By which its handler asks; where it did, the run leaves when the handler has ended."""
        self.has_slot: bool = False
        """Whether it holds one of the worker's slots: for the call that was made, or after a wait for the next one."""
        self.waiter: asyncio.Task[None] | None = None
        """In which its handler waits, or it waits for a slot."""
        self.has_waiter_begun: bool = False
        self.in_flight: RunningFunction | None = None
        """Its handler, while it waits."""
        self.is_canceled: bool = False
        """Whether its handler was canceled as was requested, so that nothing counts that it gives then."""
        self.is_stopped: bool = False
        """Whether its worker stopped it; a cancel without this mark is other code's."""
        self.is_over: bool = False
        """Whether it left the flat path."""

    def stop(self) -> None:
        """Stops it, on behalf of its worker; a handler in flight is cancelled, and no outcome of it counts."""
        self.is_stopped = True
        if self.waiter is None:
            if not self.is_over:
                self.runs.let_go(self)
        elif self.has_waiter_begun:
            self.waiter.cancel()
        # else it looks for itself when it begins: a task that is cancelled before that would leave its handler alone

    def ask_cancel(self) -> None:
        """A cancel of the run was requested: a handler in flight is canceled, and a drive goes on with the run."""
        if not self.state.is_canceling:
            request_cancel(self.state)
            if self.in_flight is not None:
                self.is_canceled = True
                self.in_flight.carrier.cancel()
            elif (waiter := self.waiter) is not None and self.has_waiter_begun and not self.is_stopped:
                waiter.cancel()

    @property
    def is_cancelled(self) -> bool:
        """Whether its task was cancelled, and has not ended yet."""
        return self.waiter is not None and self.waiter.cancelling() > 0

    def longest_timeout(self) -> float:
        """The most that an attempt of this run may take, in seconds."""
        return self.runs.performer.longest_limit(self.plan)

    @property
    def is_at_rest(self) -> bool:
        """Whether its handler is in flight: nothing else touches the run then."""
        return self.call is not None

    def is_in_flight(self, facts: Facts) -> bool:
        """Whether this very attempt is being made."""
        return self.call is facts

    def channel(self) -> Channel:
        """By which its handler asks; made when it does."""
        if self.asked is None:
            self.asked = Channel(self)
        return self.asked

    def keep(self, row: JournalRow) -> None:
        """Takes in a row that the handler asked for."""
        apply(self.state, row)
        self.pending.append(row)

    async def flush(self) -> bool:
        """Commits what is pending, while the handler is in flight; False if the run was lost."""
        state, lease = self.state, self.lease
        advance = Advance(
            lease.run_id, lease.ref, lease.token, self.stored_seq, self.pending, state.position, state.status
        )
        advance.lean = self.stored_status == state.status
        return await self.commit(advance) in APPLIED

    def settle(self, verdict: Verdict) -> None:
        """The store's verdict on its advance."""
        self.runs.settle(self, verdict)

    def refuse(self, error: RefusedError) -> None:
        """The store cannot keep its advance."""
        self.is_committing = False
        if not self.is_over:
            self.runs.leave(self, error)
