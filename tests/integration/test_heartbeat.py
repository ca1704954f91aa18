"""The beat of a worker apart from its loop: a store that hangs is not taken for a loop that is blocked."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from stepwell.engine.fleet.heartbeat import Heartbeat
from stepwell.runtime.system import SystemRuntime
from tests.waiting import eventually

if TYPE_CHECKING:
    import pytest

LEASE_SECONDS = 0.4


class SlowHeartbeat:
    """Each beat takes longer than the lease."""

    def __init__(self) -> None:
        self.beats = 0
        self.closed = threading.Event()

    def beat(self) -> dict[str, int] | None:
        """Hangs, and answers in the end."""
        self.closed.wait(1.5 * LEASE_SECONDS)
        self.beats += 1
        return {}

    def close(self) -> None:
        """Hangs no more."""
        self.closed.set()


async def test_a_store_that_answers_a_beat_late_is_not_taken_for_a_blocked_event_loop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heartbeat_connection = SlowHeartbeat()
    heard: list[dict[str, int] | None] = []
    beat = Heartbeat(
        SystemRuntime(), heartbeat_connection, LEASE_SECONDS, lambda leased, _: heard.append(leased), lambda: 0.0
    )
    beat.start()
    await eventually(lambda: len(heard) >= 3)
    await beat.stop()
    assert "blocked" not in caplog.text
