"""One leased run as its store knows it: what is stored, what is pending, and its commits and looks at the mailbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.core.state import look
from stepwell.engine.driving.restore import restored
from stepwell.engine.driving.suspects import SUSPECT_FROM
from stepwell.engine.driving.telling import Telling
from stepwell.store.records import Advance

if TYPE_CHECKING:
    from stepwell.core.mailbox import MessageName
    from stepwell.core.state import RunState
    from stepwell.engine.driving.flat_run import FlatRun
    from stepwell.engine.driving.run_owner import RunOwner
    from stepwell.store.records import History, Lease, Verdict

APPLIED = frozenset({"ok", "done"})
"""The verdicts on an advance that is in the store."""


class CommittedRun:
    """The store's side of a run that is driven; the state runs ahead of the store by the rows that are pending."""

    def __init__(self, owner: RunOwner, run: FlatRun) -> None:
        """`run`: where it stands, as it was claimed or as it leaves the flat path."""
        self._owner = owner
        self._lease = run.lease
        self.plan = run.plan
        self.state = run.state
        self._clock = run.clock
        self._now = run.clock.now
        self._begun = run.begun
        self._stay = run.stay
        self._stored_seq = run.stored_seq
        self._stored_status = run.stored_status
        self._pending = run.pending
        self._consumed: list[int] = []
        self._observers = owner.observers
        self._telling = Telling(owner.observers, run.lease.run_id, run.plan.name, owner.worker_id)
        self._has_failures = False
        self.is_committing = False
        """Whether a commit is on its way, whose verdict will tell if the run was lost."""
        self.is_suspect = run.lease.crashes >= SUSPECT_FROM
        """Whether workers died of it, more than one, and nothing was journaled since."""
        self.size = run.size
        """The bytes of the values that it holds."""
        self._left_flat_at = run.stored_seq if run.is_over else -1
        """How long the stored journal was when the run left the flat path: what made it leave is not over yet."""

    @property
    def lease(self) -> Lease:
        """The lease as it was claimed."""
        return self._lease

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

    def now(self) -> int:
        """The instant by the store's clock, or somewhat earlier."""
        return self._now()

    async def flush(self) -> bool:
        """Commits what is pending; the run stays here. False if it was lost; raises RefusedError."""
        status = self.state.status
        advance = self._advance()
        advance.lean = status == self._stored_status and not self._consumed
        return await self._commit(advance) in APPLIED

    async def _finds(self, name: MessageName) -> bool:
        """Looks for a message of that name where the mailbox has not been looked through yet; whether there is one."""
        return self.state.messages > self.state.known.get(name, 0) and await self._look(name)

    async def _look(self, name: MessageName) -> bool:
        found = await self._owner.find_message(self._lease, name, self.state.known.get(name, 0))
        look(self.state, name, found.messages, found.message)
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
        if verdict in APPLIED:
            self._stored_seq += len(advance.rows)
            added = sum([len(row.value) for row in advance.rows if row.value is not None])
            self.size += added
            self._owner.room.grow(added)
            if self.is_suspect and advance.rows:
                self.is_suspect = False
                self._owner.room.clear_suspect()
            self._stored_status = advance.status
            if self._has_failures or self._observers.attempt_ended:
                self._has_failures = False
                self._telling.committed(advance.rows)
            self._pending = []
            if not advance.lean:
                self._consumed = []
                results = self.state.results if advance.status == "completed" else None
                self._owner.on_committed(advance, self.plan.name, results)
        return verdict

    def _state_from(self, history: History | None) -> RunState:
        is_new = self._stored_seq == self._lease.seq
        status, lag = self._stored_status, self._clock.lag
        return restored(self._owner, self._lease, self.plan, history, status, is_new=is_new, lag=lag)
