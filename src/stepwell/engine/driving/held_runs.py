"""The runs in a worker's hands: each on the flat path or in a drive of its own, and from one to the other.

The flat path takes a run whose next node is a plain step with nothing unusual behind it, whenever it comes there; a
drive takes it for whatever else happens to it. Both go on from the same state, so nothing is read again.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Protocol

from stepwell.core.flat import is_usual
from stepwell.engine.driving.drive import Drive
from stepwell.engine.driving.flat import FlatRuns
from stepwell.engine.driving.run_owner import RunOwner
from stepwell.errors import JournalError
from stepwell.store.background import Lasting, begin
from stepwell.store.logs import logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stepwell.core.state import RunState
    from stepwell.engine.driving.attempts import Begun
    from stepwell.engine.driving.committer import Receiver, RefusedError
    from stepwell.engine.driving.flat_run import FlatRun
    from stepwell.store.records import Advance, Lease

_log = logger("stepwell.run")
_STUMBLED_MICROS = 5_000_000


class Holder(RunOwner, Protocol):
    """The worker's session."""

    def submit(self, advance: Advance, size: int, receiver: Receiver) -> None:
        """Has the advance committed."""

    async def give_back(self, tokens: dict[str, int], delay: int = 0) -> None:
        """Lets go of runs that are leased to the worker and not driven."""

    async def park_damaged(self, lease: Lease, error: JournalError) -> None:
        """Gives back a run whose rows are not understood, with the reason."""


class HeldRuns:
    """The runs that one worker session holds."""

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        self._held: dict[str, Drive | FlatRun] = {}
        self._returning: set[Lasting] = set()
        self._flat = FlatRuns(holder, self)
        self._emptied: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Drive | FlatRun]:
        return iter(tuple(self._held.values()))

    def get(self, run_id: str) -> Drive | FlatRun | None:
        """The run, if it is held."""
        return self._held.get(run_id)

    def begin(self, run: FlatRun) -> None:
        """Goes on with a run that was claimed, from where it stands."""
        self._holder.room.take(run.size)
        if self._is_flat(run.state):
            self._add(run)
        else:
            self._begin(Drive(self._holder, run), None)

    def takes_flat(self, drive: Drive) -> bool:
        """Takes over the run of a drive, if it is at a plain step with all of its past stored."""
        run = drive.on_flat_path() if self._is_flat(drive.state) else None
        if run is None:
            return False
        self._add(run)
        return True

    def drive(self, run: FlatRun, already: Begun | RefusedError | None) -> None:
        """Makes a drive of a run that leaves the flat path."""
        self._begin(Drive(self._holder, run), already)

    def let_go(self, run: FlatRun | Drive) -> None:
        """Forgets a run that is not driven any more; a later lease of it stays."""
        if self._held.get(run.run_id) is run:
            del self._held[run.run_id]
            if not self._held and self._emptied is not None and not self._emptied.done():
                self._emptied.set_result(None)
        self._holder.room.drop(run.size)

    def stop(self, run_ids: Iterable[str] | None = None, *, again: bool = True) -> None:
        """Stops driving these, or all; `again`: also those that were stopped before."""
        for run_id in tuple(self._held if run_ids is None else run_ids):
            run = self._held.get(run_id)
            if run is not None and (again or not run.is_cancelled):
                run.stop()

    def look_for_answers(self, run_id: str) -> None:
        """Has a run look at its mailbox, if it waits for handlers beside work that is suspended."""
        run = self._held.get(run_id)
        if isinstance(run, Drive):
            run.look_for_answers()

    def ask_cancel(self, run_ids: Iterable[str]) -> None:
        """Tells those of the runs that are held that a cancel of them was requested."""
        for run_id in run_ids:
            run = self._held.get(run_id)
            if run is not None and not run.is_stopped:
                run.ask_cancel()

    async def ended_within(self, seconds: float) -> None:
        """Waits until none is held, at most so long."""
        if self._held:
            self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._emptied}, timeout=seconds)
            self._emptied = None

    def canceled_by_others(self, run: FlatRun | Drive) -> None:
        """Gives back a run whose task other code cancelled: no handler can reach it alone."""
        _log.error("Run %s: other code cancelled it here, not its worker; giving it back.", run.run_id)
        self._give_back(run, 0)

    def stumbled(self, run: FlatRun, error: BaseException) -> None:
        """Gives back a run after an error of ours."""
        self._log_stumble(run, error)
        self._give_back(run, _STUMBLED_MICROS)

    def _is_flat(self, state: RunState) -> bool:
        return is_usual(state) and self._holder.runtime.goes_flat()

    def _add(self, run: FlatRun) -> None:
        self._held[run.lease.run_id] = run
        self._flat.add(run)

    def _begin(self, drive: Drive, already: Begun | RefusedError | None) -> None:
        drive.task = begin(self._drive, drive, already, name=f"stepwell-run-{drive.run_id}")
        self._held[drive.run_id] = drive
        drive.task.add_done_callback(partial(self._end, drive))

    async def _drive(self, drive: Drive, already: Begun | RefusedError | None) -> None:
        try:
            await drive.run(already)
        except JournalError as error:
            await self._holder.park_damaged(drive.lease, error)
        except Exception as error:  # noqa: BLE001  one run's fault must not stop the others
            self._log_stumble(drive, error)
            await self._holder.give_back({drive.run_id: drive.token}, _STUMBLED_MICROS)

    def _end(self, drive: Drive, task: asyncio.Task[None]) -> None:
        """The run's task has ended, or was cancelled, maybe before its first step."""
        if drive.is_handed_on:
            return
        self.let_go(drive)
        if task.cancelled() and not drive.is_stopped:
            self.canceled_by_others(drive)

    def _log_stumble(self, run: FlatRun | Drive, error: BaseException) -> None:
        text = "Run %s stopped being driven here; another claim will go on with it."
        _log.error(text, run.run_id, exc_info=error)

    def _give_back(self, run: FlatRun | Drive, delay: int) -> None:
        """Beside the caller, and kept until it has ended."""
        tokens = {run.run_id: run.token}
        returning = Lasting(lambda: self._holder.give_back(tokens, delay), "stepwell-give-back")
        self._returning.add(returning)
        returning.ended.add_done_callback(lambda _: self._returning.discard(returning))
