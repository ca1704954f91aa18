"""What happens in this process, told to those here who wait for it; hints only, never the truth."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepwell.store.records import Changes


class Completed(NamedTuple):
    """What is known of a run that was completed in this process: its workflow, and its encoded results."""

    workflow: str
    results: Mapping[str, bytes]


class WakeFlag:
    """Wakes one waiter: cleared before it looks, set when what it looks at has changed."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Has the waiter look again."""
        self._is_set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        """Called before looking: what sets it from now on is not lost."""
        self._is_set = False

    async def wait(self, seconds: float) -> bool:
        """Waits until it is set, at most so long; whether it was."""
        if self._is_set:
            return True
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        timer = loop.call_later(seconds, _time_out, waiter)
        try:
            await waiter
        finally:
            self._waiter = None
            timer.cancel()
        return self._is_set


class Events:
    """What in this process is told that runs are due, have ended, were canceled or were sent a signal."""

    def __init__(self) -> None:
        self.on_due: list[Callable[[], None]] = []
        self.on_changed: list[Callable[[Changes], None]] = []
        self.on_canceled: list[Callable[[list[str]], None]] = []
        self.on_answered: list[Callable[[str], None]] = []
        self.on_cancel_requested: list[Callable[[list[str]], None]] = []
        self.on_ended: list[Callable[[str, Completed | None], None]] = []

    def due(self) -> None:
        """Runs became due."""
        for tell in self.on_due:
            tell()

    def changed(self, changes: Changes) -> None:
        """Other processes wrote to the store."""
        for tell in self.on_changed:
            tell(changes)

    def cancel_requested(self, run_ids: list[str]) -> None:
        """Runs are to be undone and canceled."""
        for tell in self.on_cancel_requested:
            tell(run_ids)

    def canceled(self, run_ids: list[str]) -> None:
        """Runs were canceled."""
        for tell in self.on_canceled:
            tell(run_ids)
        for run_id in run_ids:
            self.ended(run_id)

    def answered(self, run_id: str) -> None:
        """A signal for a run was accepted here."""
        for tell in self.on_answered:
            tell(run_id)

    def ended(self, run_id: str, completed: Completed | None = None) -> None:
        """A run has ended; its results are known where it was completed here."""
        for tell in self.on_ended:
            tell(run_id, completed)


def _time_out(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
