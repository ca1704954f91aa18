"""How many suspects one worker takes."""

from __future__ import annotations

from stepwell.engine.driving.suspects import Suspects, SuspectsRoom


def test_each_survivor_lets_one_more_in() -> None:
    suspects = Suspects(max_crashes=5)
    assert suspects.room([]) == SuspectsRoom(1, worst=True)
    suspects.clear()
    assert suspects.room([]) == SuspectsRoom(2, worst=True)
    assert suspects.room([2]) == SuspectsRoom(1, worst=False)


def test_where_few_crashes_are_the_limit_suspects_go_one_at_a_time() -> None:
    """Else an innocent run beside the poison would be failed for it."""
    suspects = Suspects(max_crashes=3)
    for _ in range(5):
        suspects.clear()
    assert suspects.room([]).most == 1
    assert suspects.room([2]).most == 0
