"""A run on the flat path: what is kept of it between two plain steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.core.state import apply
from stepwell.engine.driving.channel import Channel

if TYPE_CHECKING:
    import asyncio

    from stepwell.core.journal import JournalRow
    from stepwell.core.plan import Plan
    from stepwell.core.state import RunState
    from stepwell.core.statuses import Status
    from stepwell.engine.clock import StoreClock
    from stepwell.engine.driving.committer import RefusedError
    from stepwell.engine.driving.flat import FlatRuns
    from stepwell.engine.driving.room import Stay
    from stepwell.store.records import Advance, Lease, Verdict
    from stepwell.workflow.context import Facts

NOTHING = object()
"""As `given`: no handler was called."""


class FlatRun:
    """One leased run; `state` runs ahead of the store by `pending`, and all of it is told by `state` and `lease`.

    It is always in one place: among the runs that are ready, or in its `waiter` (where its handler waits, or it
    waits for a slot), or in a commit, whose answer it takes.
    """

    __slots__ = (
        "advance",
        "asked",
        "begun",
        "call",
        "clock",
        "given",
        "has_slot",
        "has_waiter_begun",
        "is_committing",
        "is_over",
        "is_stopped",
        "lease",
        "pending",
        "plan",
        "runs",
        "size",
        "started_at",
        "state",
        "stay",
        "stored_seq",
        "stored_status",
        "waiter",
    )

    crashes = 0
    is_suspect = False

    def __init__(  # noqa: PLR0917  what is known of a run that was claimed, by two callers
        self, lease: Lease, plan: Plan, state: RunState, clock: StoreClock, stay: Stay, begun: float, size: int
    ) -> None:
        self.lease = lease
        self.plan = plan
        self.state = state
        self.clock = clock
        self.stay = stay
        self.begun = begun
        """When its claim had been answered, in monotonic seconds: what was read of the store later must know it."""
        self.size = size
        """The bytes of the values that it holds."""
        self.stored_seq = lease.seq
        self.stored_status: Status = lease.status
        self.pending: list[JournalRow] = []
        self.advance: Advance
        self.runs: FlatRuns
        self.given: object = NOTHING
        """What the handler gave that was called last, until it is looked at."""
        self.started_at = 0
        self.call: Facts | None = None
        """The attempt whose handler was called, until that has ended."""
        self.asked: Channel | None = None
        """By which its handler asks; where it did, the run leaves when the handler has ended."""
        self.has_slot = False
        """Whether one of the worker's slots waits for its next call."""
        self.waiter: asyncio.Task[None] | None = None
        """In which its handler waits, or it waits for a slot."""
        self.has_waiter_begun = False
        self.is_committing = False
        """Whether a commit is on its way, whose verdict will tell if the run was lost."""
        self.is_stopped = False
        """Whether its worker stopped it; a cancel without this mark is other code's."""
        self.is_over = False
        """Whether it left the flat path."""

    @property
    def run_id(self) -> str:
        """The run."""
        return self.lease.run_id

    @property
    def token(self) -> int:
        """The lease under which it is driven."""
        return self.lease.token

    def stop(self) -> None:
        """Stops it, on behalf of its worker; a handler in flight is cancelled, and no outcome of it counts."""
        self.is_stopped = True
        if self.waiter is None:
            if not self.is_over:
                self.runs.let_go(self)
        elif self.has_waiter_begun:
            self.waiter.cancel()
        # else it looks for itself when it begins: a task that is cancelled before that would leave its handler alone

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

    def now(self) -> int:
        """The instant by the store's clock."""
        return self.clock.now()

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
        return await self.runs.flush(self)

    def settle(self, verdict: Verdict) -> None:
        """The store's verdict on its advance."""
        self.runs.settle(self, verdict)

    def refuse(self, error: RefusedError) -> None:
        """The store cannot keep its advance."""
        self.is_committing = False
        if not self.is_over:
            self.runs.leave(self, error)
