"""A worker's own heartbeat, from a thread and over a connection of its own; what it brought is told to the loop.

A worker is alive while its row exists. A heartbeat renews it, even while the event loop is blocked, as long as a step
may take; the answer says which runs the store counts as leased to it, or that it was declared dead.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from typing import TYPE_CHECKING

from stepwell.errors import StoreUnavailableError
from stepwell.store.logs import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell.runtime.protocol import Runtime
    from stepwell.store.protocol import HeartbeatConnection

_log = logger("stepwell.worker")
BEATS_A_LEASE = 3.3
_LONGEST_PAUSE_SECONDS = 3_600.0
"""However long the lease is, a beat is not further from the next: no thread can wait for a century."""


class Heartbeat:
    """Beats apart from the worker's loop until stopped; tells the loop what the beat brought."""

    def __init__(
        self,
        runtime: Runtime,
        heartbeat_connection: HeartbeatConnection,
        lease_seconds: float,
        on_beat: Callable[[dict[str, int] | None, float], None],
        longest_timeout: Callable[[], float],
        *,
        worker_id: str = "",
    ) -> None:
        self._runtime = runtime
        self._heartbeat_connection = heartbeat_connection
        self._worker_id = worker_id
        self._every = min(lease_seconds / BEATS_A_LEASE, _LONGEST_PAUSE_SECONDS)
        self._blocked_after = lease_seconds / 2
        self._on_beat = on_beat
        self._longest_timeout = longest_timeout
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._asked_at: float | None = None
        self._complained = False
        self._stop: Callable[[], None] = _not_begun
        self.finished: asyncio.Future[None] = self._loop.create_future()
        """Done once the last beat has ended, after `halt`, and the connection is closed."""
        self.succeeded_at: float = runtime.monotonic()

    def start(self) -> None:
        """Begins to beat."""
        self._stop = self._runtime.repeat(self._beat_if_fit, self._every, self._close, "stepwell-heartbeat")

    def halt(self) -> None:
        """Has this beat be the last, if one is under way; never waits."""
        self._stop()

    async def stop(self) -> None:
        """Beats no more."""
        self.halt()
        await asyncio.wait({self.finished})  # a bare await would cancel the future with its waiter

    def _beat_if_fit(self) -> None:
        try:
            if self._is_loop_running():
                self._beat()
        except Exception:  # noqa: BLE001  a worker that beats no more, without a word, would be declared dead while it works
            _log.exception("Worker %s: the heartbeat failed; trying again.", self._worker_id)

    def _close(self) -> None:
        try:
            self._heartbeat_connection.close()
        finally:
            self._tell(self._finish)

    def _beat(self) -> None:
        began = self._runtime.monotonic()
        try:
            leased = self._heartbeat_connection.beat()
        except StoreUnavailableError as error:
            _log.warning("Worker %s cannot tell the store that it is alive; trying again: %s", self._worker_id, error)
            return
        self.succeeded_at = self._runtime.monotonic()
        took = self.succeeded_at - began
        facts = {"event": "beat", "worker_id": self._worker_id, "seconds": took}
        _log.debug("Worker %s told the store in %.3f s that it is alive.", self._worker_id, took, extra=facts)
        self._tell(lambda: self._on_beat(leased, began))

    def _is_loop_running(self) -> bool:
        """Whether to beat: a blocked event loop is logged, and given up only after the longest step's time.

        When it moves again the beat goes on, and tells whether the worker was declared dead meanwhile.
        """
        now = self._runtime.monotonic()
        asked_at = self._asked_at
        silent = 0.0 if asked_at is None else now - asked_at
        if asked_at is None:
            self._asked_at = now
            self._tell(self._answer)
        if silent < self._blocked_after:
            self._complained = False
            return True
        if not self._complained:
            self._complained = True
            frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001  the documented way to see a thread
            stack = "".join(traceback.format_stack(frame)) if frame else "(unknown)"
            _log.error("The event loop has been blocked for %.1f s; its runs stay here. It is at:\n%s", silent, stack)
        return silent < max(self._longest_timeout(), self._blocked_after * 2)

    def _answer(self) -> None:
        self._asked_at = None

    def _finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)

    def _tell(self, what: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:  # the loop was closed: nothing is left to be told
            self._stop()


def _not_begun() -> None:
    """There is nothing to stop yet."""
