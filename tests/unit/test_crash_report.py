"""How `crash_everywhere` judges an end that differs from the undisturbed one, and time that stands still."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from stepwell.testing.clock import VirtualRuntime
from stepwell.testing.ends import End
from stepwell.testing.report import CrashReport, judged

WHOLE = End(
    status="failed",
    results={"a": "1"},
    failure="b: ValueError: no",
    undone=("c", "a"),
    undone_badly=(),
    not_undone=(),
    view="{}",
    places=["here"],
    pieces=Counter({"a": 1, "undo a": 1}),
)
DIED = replace(WHOLE, has_died=True)


def report(whole: End, end: End) -> CrashReport:
    """Of one place, where the run ended so."""
    return judged("flow", "{}", [whole, whole], {"here": end}, seconds=0.0)


DIFFERENT = {
    "alike": (DIED, ()),
    "a result": (replace(DIED, results={"a": "2"}), ("result of a: 2 instead of 1",)),
    "a result that is not there": (replace(DIED, results={}), ("result of a: nothing instead of 1",)),
    "the order of undoing": (replace(DIED, undone=("a", "c")), ("compensated: a, c instead of c, a",)),
    "nothing undone": (replace(DIED, undone=()), ("compensated: nothing instead of c, a",)),
    "a compensator that failed": (replace(DIED, undone_badly=("a",)), ("could not be compensated: a",)),
    "another failure": (replace(DIED, failure="b: OSError: no"), ("failure: b: OSError: no instead of",)),
    "what the probe saw": (replace(DIED, view="[1]"), ("the probe saw [1] instead of {}",)),
    "another status": (replace(DIED, status="completed", failure=None), ("it completed",)),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_each_difference_from_the_undisturbed_run_is_told(what: str) -> None:
    end, told = DIFFERENT[what]
    (point,) = report(WHOLE, end).points
    assert point.ended == ("otherwise" if told else "alike")
    assert len(point.differences) == len(told)
    assert all(found.startswith(words) for found, words in zip(point.differences, told, strict=True))


def test_who_is_called_as_often_as_undisturbed_was_not_called_twice() -> None:
    """A handler whose function fails once is called twice by itself."""
    whole = replace(WHOLE, pieces=Counter({"a": 2, "b": 1}))
    died = replace(DIED, pieces=Counter({"a": 2, "b": 2}))
    assert report(whole, died).ran_twice == {"b": 1}


def test_time_that_was_let_pass_does_not_come_back() -> None:
    """What is due at once is due at an instant that was long ago."""
    clock = VirtualRuntime(1_000, 0, seeded_ids=True)
    clock.move(2_000)
    clock.move(0)
    assert clock.wall() == 2_000
