"""One leased run as its store knows it: what is stored, what is pending, and its commits and looks at the mailbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.core.state import look
from stepwell.engine.driving.restore import restored
from stepwell.engine.driving.stored_run import APPLIED, StoredRun
from stepwell.engine.driving.suspects import SUSPECT_FROM
from stepwell.store.records import Advance

if TYPE_CHECKING:
    from stepwell.core.mailbox import MessageName
    from stepwell.core.state import RunState
    from stepwell.engine.driving.flat_run import FlatRun
    from stepwell.engine.driving.run_owner import RunOwner
    from stepwell.engine.driving.telling import Telling
    from stepwell.store.records import History


class CommittedRun(StoredRun):
    """The store's side of a run that is driven."""

    def __init__(self, owner: RunOwner, run: FlatRun) -> None:
        """`run`: where it stands, as it was claimed or as it leaves the flat path."""
        super().__init__(owner, run.lease, run.plan, run.state, run.clock, run.stay, run.begun, run.size)
        self._owner = owner
        self._now = run.clock.now
        self.stored_seq = run.stored_seq
        self.stored_status = run.stored_status
        self.pending = run.pending
        self._consumed: list[int] = []
        self._observers = owner.observers
        self._telling = super().telling
        self.is_suspect = run.lease.crashes >= SUSPECT_FROM
        """Whether workers died of it, more than one, and nothing was journaled since."""
        self._left_flat_at = run.stored_seq if run.is_over else -1
        """How long the stored journal was when the run left the flat path: what made it leave is not over yet."""

    @property
    def telling(self) -> Telling:
        """Tells observers of this run; it remembers what was raised until that is committed."""
        return self._telling

    @property
    def crashes(self) -> int:
        """How many workers had died of it when it was claimed, with nothing journaled in between."""
        return self.lease.crashes

    async def flush(self) -> bool:
        """Commits what is pending; the run stays here. False if it was lost; raises RefusedError."""
        status = self.state.status
        advance = self._advance()
        advance.lean = status == self.stored_status and not self._consumed
        return await self.commit(advance) in APPLIED

    async def _finds(self, name: MessageName) -> bool:
        """Looks for a message of that name where the mailbox has not been looked through yet; whether there is one."""
        return self.state.messages > self.state.known.get(name, 0) and await self._look(name)

    async def _look(self, name: MessageName) -> bool:
        found = await self._owner.find_message(self.lease, name, self.state.known.get(name, 0))
        look(self.state, name, found.messages, found.message)
        return found.message is not None

    def _unless_came(self, advance: Advance, absent: MessageName) -> Advance:
        advance.absent = absent
        advance.seen = self.state.known.get(absent, 0)
        return advance

    def _advance(self, extra_position: int = 0) -> Advance:
        lease, state = self.lease, self.state
        position = state.position + extra_position
        advance = Advance(lease.run_id, lease.ref, lease.token, self.stored_seq, self.pending, position, state.status)
        if self._consumed:
            advance.consumed = self._consumed
        return advance

    def note_stored(self, advance: Advance) -> None:
        """Takes note that the advance is in the store, and tells of it."""
        if self.is_suspect and advance.rows:
            self.is_suspect = False
            self._owner.room.clear_suspect()
        super().note_stored(advance)
        if not advance.lean:
            self._consumed = []

    def _state_from(self, history: History | None) -> RunState:
        is_new = self.stored_seq == self.lease.seq
        status, lag = self.stored_status, self.clock.lag
        return restored(self._owner, self.lease, self.plan, history, status, is_new=is_new, lag=lag)
