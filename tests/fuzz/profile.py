"""How much the fuzzing of the edges tries: little and always the same in CI, as much as asked for elsewhere."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("STEPWELL_FUZZ", "1"))
"""`STEPWELL_FUZZ=100 pytest tests/fuzz` tries a hundred times as many examples, other ones each time."""


def examples(count: int) -> settings:
    """Settings for so many examples."""
    return settings(
        max_examples=count * TIMES,
        derandomize=TIMES == 1,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
