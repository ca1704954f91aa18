"""The beat of a worker whose store, or whose event loop, does what nobody foresaw."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

from stepwell.engine.fleet.heartbeat import Heartbeat
from stepwell.runtime.system import SystemRuntime
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

LEASE_SECONDS = 0.1


class HeartbeatConnection:
    """Fails its first beats with an error that no store is meant to raise."""

    def __init__(self, failures: int = 0) -> None:
        self._failures = failures
        self.beaten = threading.Event()
        self.closed = threading.Event()

    def beat(self) -> dict[str, int] | None:
        """Fails, or beats."""
        if self._failures:
            self._failures -= 1
            raise ValueError("the heartbeat_connection stumbled")
        self.beaten.set()
        return {}

    def close(self) -> None:
        """Beats no more."""
        self.closed.set()


def started(heartbeat_connection: HeartbeatConnection, hear: Callable[[dict[str, int] | None], None]) -> Heartbeat:
    beat = Heartbeat(
        SystemRuntime(), heartbeat_connection, LEASE_SECONDS, lambda leased, _: hear(leased), lambda: PATIENCE
    )
    beat.start()
    return beat


async def test_a_beat_is_logged_for_debugging_with_the_worker_whose_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "stepwell.worker")
    heard = list[dict[str, int] | None]()
    beat = Heartbeat(
        SystemRuntime(),
        HeartbeatConnection(),
        LEASE_SECONDS,
        lambda leased, _: heard.append(leased),
        lambda: PATIENCE,
        worker_id="worker-7",
    )
    beat.start()
    await eventually(lambda: heard)
    await beat.stop()
    record: Any = next(record for record in caplog.records if getattr(record, "event", None) == "beat")
    assert (record.levelno, record.worker_id) == (logging.DEBUG, "worker-7")
    assert "Worker worker-7 " in record.getMessage()


async def test_i4_a_beat_that_fails_for_an_unknown_reason_is_logged_and_the_next_one_is_made(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Else the others would expire a worker that lives and goes on."""
    heard = list[dict[str, int] | None]()
    beat = started(HeartbeatConnection(failures=1), heard.append)
    await eventually(lambda: heard)
    await beat.stop()
    (complaint,) = (record for record in caplog.records if "heartbeat failed" in record.message)
    assert "the heartbeat_connection stumbled" in str(complaint.exc_info)


def test_a_beat_ends_with_the_event_loop_that_it_speaks_for() -> None:
    """Else a worker whose loop is gone would seem alive, and keep its runs for ever."""

    async def begin() -> None:
        started(heartbeat_connection, lambda _: None)

    heartbeat_connection, loop = HeartbeatConnection(), asyncio.new_event_loop()
    try:
        loop.run_until_complete(begin())
        assert heartbeat_connection.beaten.wait(PATIENCE)
    finally:
        loop.close()
    assert heartbeat_connection.closed.wait(PATIENCE)


async def test_the_beat_goes_on_while_a_step_may_still_block_the_event_loop() -> None:
    """A worker whose step blocks for many leases, within its time, is not declared dead."""
    goes_on = threading.Event()
    clock = SystemRuntime()
    late = clock.monotonic() + 4 * LEASE_SECONDS

    class Late(HeartbeatConnection):
        def beat(self) -> dict[str, int] | None:
            if clock.monotonic() > late:
                goes_on.set()
            return super().beat()

    beat = started(Late(), lambda _: None)
    blocked = goes_on.wait(PATIENCE)
    await beat.stop()
    assert blocked
