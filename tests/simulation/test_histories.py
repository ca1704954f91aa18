"""Hundreds of seeded histories: workers that die at any await, answers that are lost, clocks that jump, live burials.

More of them: `make simulate SEEDS=5000`. A failing one is played again by `python -m tests.simulation SEED`.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.world import play

REGRESSIONS = (242, 690)
"""Seeds beyond the usual ones that found a defect once."""
SHARE = 25
SHARES = 8
FAULTS = {
    "away",
    "busy",
    "buried alive",
    "clean stops",
    "clock jumps",
    "forgets",
    "freezes",
    "kills",
    "kills from outside",
    "repeats",
    "stuck",
}
ENTRIES = {
    *(f"step {status}" for status in ("completed", "failed", "skipped", "retrying", "suspended")),
    *(f"{kind} completed" for kind in ("route", "sleep", "signal", "child", "compensate")),
    *("child failed", "compensate retrying", "route retrying"),
}


@pytest.mark.parametrize("share", range(SHARES))
def test_every_history_ends_as_its_inputs_say(share: int) -> None:
    met, entries, statuses = Counter[str](), Counter[str](), Counter[str]()
    for seed in range(share * SHARE, (share + 1) * SHARE):
        ended = play(seed)
        assert ended.violations == [], f"python -m tests.simulation {seed}"
        met.update(ended.met)
        statuses.update(str(run.status) for run in ended.story.snapshots.values())
        entries.update(f"{one.kind} {one.status}" for journal in ended.story.journals.values() for one in journal)
    assert met.keys() >= FAULTS
    assert entries.keys() >= ENTRIES
    assert statuses.keys() == {"completed", "failed", "canceled"}


@pytest.mark.parametrize("seed", REGRESSIONS)
def test_a_history_that_once_went_wrong_does_so_no_more(seed: int) -> None:
    assert play(seed).violations == [], f"python -m tests.simulation {seed}"


def test_a_seed_is_a_history() -> None:
    first, second = play(7), play(7)

    assert first.story.journals == second.story.journals
    assert first.story.lines == second.story.lines
    assert (first.seconds, first.met) == (second.seconds, second.met)
