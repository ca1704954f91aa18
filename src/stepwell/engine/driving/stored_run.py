"""A leased run beside what the store has of it, and the one place that takes note of what was stored.

The state runs ahead of the store by the rows that are pending. The flat path and a drive go on from the same facts, so
a run goes from one to the other as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.engine.driving.telling import Telling

if TYPE_CHECKING:
    from stepwell.core.journal import JournalRow
    from stepwell.core.plan import Plan
    from stepwell.core.state import RunState
    from stepwell.core.statuses import Status
    from stepwell.engine.clock import StoreClock
    from stepwell.engine.driving.room import Stay
    from stepwell.engine.driving.run_owner import RunOwner
    from stepwell.store.records import Advance, Lease, Verdict

APPLIED = frozenset({"ok", "done"})
"""The verdicts on an advance that is in the store."""


class StoredRun:
    """One leased run; all of it is told by `state` and `lease`."""

    __slots__ = (
        "begun",
        "clock",
        "is_committing",
        "lease",
        "owner",
        "pending",
        "plan",
        "size",
        "state",
        "stay",
        "stored_seq",
        "stored_status",
    )

    def __init__(  # noqa: PLR0917  what is known of a run that was claimed, on the hot path
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
        self.owner: RunOwner = owner
        self.lease: Lease = lease
        """The lease as it was claimed."""
        self.plan: Plan = plan
        self.state: RunState = state
        self.clock: StoreClock = clock
        self.stay: Stay = stay
        self.begun: float = begun
        """When its claim had been answered, in monotonic seconds: what was read of the store later must know it."""
        self.size: int = size
        """The bytes of the values that it holds."""
        self.stored_seq: int = lease.seq
        self.stored_status: Status = lease.status
        self.pending: list[JournalRow] = []
        self.is_committing: bool = False
        """Whether a commit is on its way, whose verdict will tell if the run was lost."""

    @property
    def run_id(self) -> str:
        """The run."""
        return self.lease.run_id

    @property
    def token(self) -> int:
        """The lease under which it is driven."""
        return self.lease.token

    def now(self) -> int:
        """The instant by the store's clock, or somewhat earlier."""
        return self.clock.now()

    @property
    def telling(self) -> Telling:
        """Tells observers of this run."""
        return Telling(self.owner.observers, self.lease.run_id, self.plan.name, self.owner.worker_id)

    async def commit(self, advance: Advance) -> Verdict:
        """Has the advance committed, and takes note if it was; raises RefusedError."""
        self.is_committing = True
        try:
            verdict = await self.owner.commit(advance)
        finally:
            self.is_committing = False
        if verdict in APPLIED:
            self.note_stored(advance)
        return verdict

    def note_stored(self, advance: Advance) -> None:
        """Takes note that the advance is in the store, and tells of it."""
        owner, rows, observers = self.owner, advance.rows, self.owner.observers
        self.pending = []
        self.stored_seq += len(rows)
        self.stored_status = advance.status
        added, has_failures = 0, False
        for row in rows:
            if row.value is not None:
                added += len(row.value)
            has_failures = has_failures or row.error is not None
        self.size += added
        owner.room.grow(added)
        if observers.attempt_ended or has_failures:
            self.telling.committed(rows)
        if not advance.lean:
            is_completed = advance.status == "completed"
            owner.on_committed(advance, self.plan.name, self.state.results if is_completed else None)
            if advance.ended and (observers.are_heard(observers.run_ended) or not is_completed):
                self.telling.ended(self.state, self.clock.now())
