"""Tests that the torture script recognises the log line of a worker that was declared dead."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from scripts.torture_parts.worker_processes import EXPIRED
from stepwell import WorkerDead
from stepwell.engine.logging_observer import LoggingObserver


@pytest.mark.parametrize("silent_for", [None, timedelta(seconds=12)])
def test_the_line_of_a_dead_worker_is_recognised(
    caplog: pytest.LogCaptureFixture, silent_for: timedelta | None
) -> None:
    with caplog.at_level(logging.WARNING, "stepwell.worker"):
        LoggingObserver().worker_dead(WorkerDead("w1", "host-a", silent_for, 3))
    (record,) = caplog.records
    line = f"1796000000.125 4711 {record.levelname} {record.getMessage()}"

    assert EXPIRED.findall(line) == [("1796000000.125", "w1")]
