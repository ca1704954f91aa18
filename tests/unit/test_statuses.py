"""The table of statuses by its own calls: which may follow which, and which call of the store makes the change."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from stepwell import RunStatus
from stepwell.core.statuses import ENDED, FIRST, LIVE, TRANSITIONS, Status, Verb, may_follow

STATUSES: tuple[Status, ...] = get_args(Status)
FOLLOWING: dict[str, set[str]] = {
    "pending": {"running", "canceled"},
    "running": {"suspended", "compensating", "completed", "failed", "canceled"},
    "suspended": {"running", "compensating", "completed", "failed", "canceled"},
    "compensating": {"failed", "canceled"},
    "completed": set(),
    "failed": set(),
    "canceled": set(),
}


@pytest.mark.parametrize(("before", "after"), [*product(STATUSES, STATUSES)])
def test_a_status_follows_another_by_the_table_or_stays(before: Status, after: Status) -> None:
    assert may_follow(before, after) is (after in FOLLOWING[before] | {before})


def test_every_public_status_is_in_the_table_and_no_other() -> None:
    assert {*TRANSITIONS} == {*STATUSES} == {status.value for status in RunStatus}


def test_an_ended_run_never_changes() -> None:
    assert {"completed", "failed", "canceled"} == ENDED
    assert all(not TRANSITIONS[status] for status in STATUSES if status in ENDED)


def test_every_live_run_can_be_canceled_by_cancel_and_by_its_worker_once_it_has_begun() -> None:
    canceling = {before for before, found in TRANSITIONS.items() for one in found if one.after == "canceled"}
    assert canceling == LIVE
    verbs = {before: one.by for before, found in TRANSITIONS.items() for one in found if one.after == "canceled"}
    assert verbs.pop("pending") == ("cancel",)
    assert set(verbs.values()) == {("cancel", "commit")}


def test_every_status_can_be_reached_from_the_first() -> None:
    reached: set[Status] = {FIRST}
    while True:
        more = {one.after for status in reached for one in TRANSITIONS[status]} - reached
        if not more:
            break
        reached |= more
    assert reached == {*STATUSES}


def test_a_run_that_compensates_never_completes_or_goes_on() -> None:
    assert {one.after for one in TRANSITIONS["compensating"]} == {"failed", "canceled"}


def test_each_change_is_made_by_a_call_of_the_store_and_has_a_reason() -> None:
    for found in TRANSITIONS.values():
        for one in found:
            assert one.why
            assert {*one.by} <= {*get_args(Verb)}
            assert one.by
