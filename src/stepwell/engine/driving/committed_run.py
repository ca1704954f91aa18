"""One leased run as its store knows it: what is stored, what is pending, and its commits and looks at the mailbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.core.state import apply_decision, awaited, doubt, is_counted, look, request_cancel
from stepwell.engine.driving.restore import restored
from stepwell.engine.driving.stored_run import APPLIED, StoredRun
from stepwell.engine.driving.suspects import SUSPECT_FROM
from stepwell.errors import JournalError
from stepwell.store.records import AT_ONCE, Advance, Wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell.core.decisions import Record
    from stepwell.core.journal import JournalRow
    from stepwell.core.mailbox import MessageName
    from stepwell.core.state import RunState
    from stepwell.core.statuses import Status
    from stepwell.engine.driving.flat_run import FlatRun
    from stepwell.engine.driving.run_owner import RunOwner
    from stepwell.engine.driving.telling import Telling
    from stepwell.store.records import Verdict


class CommittedRun(StoredRun):
    """The store's side of a run that is driven."""

    def __init__(self, owner: RunOwner, run: FlatRun) -> None:
        """`run`: where it stands, as it was claimed or as it leaves the flat path."""
        super().__init__(owner, run.lease, run.plan, run.state, run.clock, run.stay, run.begun, run.size)
        self._owner = owner
        self._now = run.clock.now
        self.stored_seq: int = run.stored_seq
        self.stored_status: Status = run.stored_status
        self.pending: list[JournalRow] = run.pending
        self._consumed: list[int] = []
        self._freed: list[int] = []
        """Those of the messages that are consumed which were refused."""
        self._recounted: JournalRow | None = None
        self._observers = owner.observers
        self._telling = super().telling
        self.is_suspect: bool = run.lease.crashes >= SUSPECT_FROM
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

    def drop_pending(self) -> None:
        """Forgets what the store cannot keep."""
        self.pending, self._consumed, self._freed, self._recounted = [], [], [], None

    async def flush(self) -> bool:
        """Commits what is pending; the run stays here. False if it was lost; raises RefusedError."""
        verdict: Verdict = "message"
        while verdict == "message":
            advance = self._advance()
            unanswered = self._await_signals(advance)
            advance.lean = advance.status == self.stored_status and not self._consumed and not unanswered
            verdict = await self.commit(advance)
            if verdict == "message":
                await self._look(unanswered)
        return verdict in APPLIED

    def _counts_refusal(self, record: Record) -> bool:
        """Takes in that the last refused row of a wait counts one more, if the record says so: no row is added then."""
        if not is_counted(self.state, record.row):
            return False
        self._recounted = record.row
        self._consumed += record.consumed
        self._freed += record.consumed
        apply_decision(self.state, record)
        return True

    async def _release(self, delay: int = 0) -> bool:
        """Gives the run back, due at once or after the delay, with all that it still waits for."""
        state, verdict = self.state, "message"
        while verdict in {"message", "cancel"}:
            advance = self._advance()
            advance.release = True
            advance.due_at = self._now() + delay if delay else AT_ONCE
            unanswered = self._await_signals(advance)
            parked = state.parked
            if parked is not None:
                advance.parked_at, advance.wake_at = parked.at, parked.wake_at
                # A signal that was accepted meanwhile ended its wait; only what still waits for all is suspended.
                if self.stored_status == "suspended" and state.status == "running" and not state.mailbox:
                    advance.status = "suspended"
            verdict = await self.commit(advance)
            if verdict == "message":
                await self._look(unanswered)
            elif verdict == "cancel":
                self.ask_cancel()
        return False

    async def _is_flushed(self) -> bool:
        return not (self.pending or self._consumed) or await self.flush()

    def ask_cancel(self) -> None:
        """A cancel of the run was requested."""
        request_cancel(self.state)

    def _was_asked(self, verdict: Verdict) -> bool:
        """Whether a cancel was requested of which the refused advance did not know: the run is still this drive's."""
        if verdict == "cancel":
            self.ask_cancel()
        return verdict == "cancel"

    async def _finds(self, names: Sequence[MessageName]) -> bool:
        """Looks for messages where the mailbox has not been looked through for them yet; whether there is one."""
        messages, known = self.state.messages, self.state.known
        unknown = [name for name in names if messages > known.get(name, 0)]
        return bool(unknown) and await self._look(unknown)

    async def _look(self, names: Sequence[MessageName]) -> bool:
        """Looks for the next message of each of these names; whether there is one."""
        known = self.state.known
        found = await self._owner.find_messages(self.lease, {name: known.get(name, 0) for name in names})
        look(self.state, *found)
        return bool(found.found)

    def _unless_came(self, advance: Advance, absent: Sequence[MessageName]) -> Advance:
        advance.absent = absent
        # Up to the least of the numbers the mailbox was looked through for all of them.
        advance.seen = min(self.state.known.get(name, 0) for name in absent)
        return advance

    def _await_signals(self, advance: Advance) -> Sequence[MessageName]:
        """Says what the run waits for once this is committed; a signal that is here already was accepted as another.

        From that commit on the signal is accepted, whether the run stays here or not. Named again beside a message that
        has come since, it would be accepted twice: so the advance rests on the absence of such messages.
        """
        unanswered = awaited(self.state)
        if unanswered:
            advance.awaiting = [name.name for name in unanswered]
            self._unless_came(advance, unanswered)
        return unanswered

    def _advance(self, extra_position: int = 0) -> Advance:
        lease, state = self.lease, self.state
        position = state.position + extra_position
        advance = Advance(lease.run_id, lease.ref, lease.token, self.stored_seq, self.pending, position, state.status)
        if self._consumed:
            advance.consumed = self._consumed
            advance.freed = self._freed
            advance.recounted = self._recounted
        if state.is_canceling:
            advance.knows_cancel = True
        return advance

    def note_stored(self, advance: Advance) -> None:
        """Takes note that the advance is in the store, and tells of it."""
        if self.is_suspect and advance.rows:
            self.is_suspect = False
            self._owner.room.clear_suspect()
        super().note_stored(advance)
        if not advance.lean:
            self._consumed, self._freed, self._recounted = [], [], None

    async def reread(self) -> None:
        """Has the state be what is stored; what is known of its handlers and of its cancel stays."""
        before, lease = self.state, self.lease
        history = await self._owner.reload(Wanted(lease))
        if before.is_canceling and lease.cancel_requested_at is None:
            lease = lease._replace(cancel_requested_at=self._now())
        is_new, lag = self.stored_seq == lease.seq, self.clock.lag
        self.state: RunState = restored(
            self._owner, lease, self.plan, history, self.stored_status, is_new=is_new, lag=lag
        )
        if before.is_unknown:
            doubt(self.state)
        if self.state.seq != self.stored_seq:
            reason = f"it has {self.state.seq} rows where {self.stored_seq} were committed"
            raise JournalError(self.run_id, reason)

    async def _read_whole(self) -> bool:
        """Reads what was left out when the run was claimed: all that completed is to be undone now."""
        if not await self._is_flushed():
            return False
        await self.reread()
        return True
