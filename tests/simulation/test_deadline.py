"""A signal at the deadline of a wait is accepted and used, or refused and the wait times out; never in between.

The long form is `python -m tests.simulation.deadline --seeds 10000`.
"""

from __future__ import annotations

from collections import Counter

from tests.simulation.deadline import play

SEEDS = 400


def test_i6_a_signal_at_the_deadline_is_used_or_refused() -> None:
    went = Counter[str]()
    for seed in range(SEEDS):
        how, found = play(seed)
        assert found == [], f"python -m tests.simulation.deadline --first {seed} --seeds 1"
        went[how] += 1
    assert went.keys() >= {
        "resume accepted, used",
        "resume refused, timed out",
        "signal accepted, used",
        "signal refused, timed out",
    }
