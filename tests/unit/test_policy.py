"""Waits between attempts at their bounds, and what of a group of exceptions decides."""

from __future__ import annotations

import pytest

from stepwell import Backoff

SECOND = 1_000_000


@pytest.mark.parametrize("failed", [9, 10, 1_100, 100_000])
def test_the_wait_stays_at_its_maximum_however_many_attempts_failed(failed: int) -> None:
    assert Backoff(initial=2, factor=2, maximum=300, jitter=0).delay(failed, 0.5) == 300 * SECOND


@pytest.mark.parametrize(("draw", "seconds"), [(0.0, 50), (0.5, 100), (1.0, 150)])
def test_jitter_makes_a_wait_shorter_as_often_as_longer(draw: float, seconds: int) -> None:
    assert Backoff(initial=100, jitter=0.5).delay(1, draw) == seconds * SECOND
