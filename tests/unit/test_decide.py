"""What a run does next, by its own call: a state and an instant in, decisions out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stepwell import durable
from stepwell.core.decide import decide
from stepwell.core.decisions import Call, Record
from stepwell.core.journal import item_of
from stepwell.core.state import admit, apply, apply_decision, begin, end
from tests.unit.states import NO, failed, heard, retrying, row, run_of, said

if TYPE_CHECKING:
    from stepwell import Workflow
    from stepwell.core.journal import JournalRow
    from stepwell.core.state import RunState

SECOND = 1_000_000


def three() -> Workflow:
    """Three steps, of which the first can be undone."""
    return durable("flow").step("first", print, compensate=print).step("second", print).step("last", print)


def both(**options: Any) -> Workflow:
    """A parallel of two entries."""
    return durable("flow").parallel("both", {"air": print, "sea": print}, **options)


def at_air_and_sea(*rows: JournalRow) -> RunState:
    """A run of the parallel both of whose calls are in flight."""
    state = run_of(both(), *rows)
    for call in decide(state, 0):
        assert isinstance(call, Call)
        begin(state, call)
    return state


@pytest.mark.parametrize(
    ("rows", "now", "decided"),
    [
        ([], 0, "call first"),
        ([row(1, "first")], 0, "call second"),
        ([row(1, "first"), row(2, "second"), row(3, "last")], 0, 'complete {"first":1,"second":1,"last":1}'),
        ([retrying(1, "first", until=50)], 49, "park until 50"),
        ([retrying(1, "first", until=50)], 50, "call first, attempt 2"),
        ([retrying(1, "first", until=50), retrying(2, "first", 2, until=90)], 50, "park until 90"),
        ([failed(1, "first")], 0, "fail ValueError"),
        ([row(1, "first"), failed(2, "second")], 0, "compensate"),
        ([row(1, "first"), row(2, "second", status="skipped", value=None)], 0, "call last"),
        ([row(1, "first", status="suspended", n=1)], 0, "park for signal first"),
    ],
)
def test_a_run_of_steps_goes_on_from_where_its_journal_ends(rows: list[JournalRow], now: int, decided: str) -> None:
    assert said(run_of(three(), *rows), now) == [decided]


def test_a_suspended_step_is_entered_again_with_its_message() -> None:
    state = run_of(three(), row(1, "first", status="suspended", n=1))
    heard(state, "first")
    assert said(state) == ["call first with message 1"]


@pytest.mark.parametrize(("crashes", "decided"), [(4, "call second"), (5, "record second failed CrashLimit")])
def test_a_node_during_which_workers_died_too_often_fails(crashes: int, decided: str) -> None:
    assert said(run_of(three(), row(1, "first"), crashes=crashes, max_crashes=5)) == [decided]


def test_a_crash_limit_waits_for_the_calls_in_flight() -> None:
    state = at_air_and_sea()
    state.crashes = state.max_crashes
    assert said(state) == ["wait"]


def test_a_condition_is_asked_before_its_node_and_not_again() -> None:
    state = run_of(durable("flow").step("maybe", print, when=print))
    assert said(state) == ["ask maybe"]
    admit(state)
    assert said(state) == ["call maybe"]


@pytest.mark.parametrize(("now", "decided"), [(49, "park until 50"), (50, "ask maybe, attempt 2")])
def test_a_condition_that_failed_is_asked_again_at_its_time(now: int, decided: str) -> None:
    state = run_of(durable("flow").step("maybe", print, when=print), retrying(1, "maybe", until=50, detail=b"when"))
    assert said(state, now) == [decided]


@pytest.mark.parametrize(
    ("rows", "now", "decided"),
    [
        ([], 0, ["call air", "call sea"]),
        ([row(1, "both", item="air")], 0, ["call sea"]),
        ([retrying(1, "both", until=50, item="air")], 0, ["call sea"]),
        ([retrying(1, "both", until=50, item="air")], 50, ["call sea", "call air, attempt 2"]),
        ([retrying(1, "both", until=50, item="air"), row(2, "both", item="sea")], 49, ["park until 50"]),
        ([row(1, "both", item="sea"), row(2, "both", item="air")], 0, ['complete {"air":1,"sea":1}']),
        ([failed(1, "both", item="air")], 0, ["fail ValueError"]),
    ],
)
def test_a_parallel_calls_every_entry_that_may_begin(rows: list[JournalRow], now: int, decided: list[str]) -> None:
    assert said(run_of(both(), *rows), now) == decided


def test_a_parallel_begins_no_call_twice_and_waits_for_those_in_flight() -> None:
    state = run_of(both())
    air, sea = decide(state, 0)
    assert isinstance(air, Call)
    assert isinstance(sea, Call)
    begin(state, air)
    assert said(state) == ["call sea"]
    begin(state, sea)
    assert said(state) == ["wait"]
    end(state, air, began=False)
    assert said(state) == ["call air"]


def test_after_a_failure_nothing_begins_and_the_calls_in_flight_are_waited_for() -> None:
    state = at_air_and_sea()
    air = next(call for call in decide(run_of(both()), 0) if isinstance(call, Call))
    apply(state, failed(1, "both", item="air"))
    end(state, air, began=True)
    assert said(state) == ["wait"]


def waiting(**options: Any) -> Workflow:
    """A wait for a signal."""
    return durable("flow").wait_for_signal("wait", "go", **options)


def test_a_wait_is_for_its_signal_until_its_timeout_counted_from_when_it_began() -> None:
    state = run_of(waiting(timeout=1))
    (park,) = decide(state, 5)
    apply_decision(state, park)  # type: ignore[arg-type]  # it is a park
    assert said(state, 5 + SECOND - 1) == [f"park until {5 + SECOND} for signal go"]
    assert said(state, 5 + SECOND) == ["record wait failed SignalTimeout, unless go came"]


@pytest.mark.parametrize(
    ("options", "now", "decided"),
    [
        ({}, 9 * SECOND, "park for signal go"),
        ({"timeout": 0}, 0, "record wait failed SignalTimeout, unless go came"),
        ({"timeout": 0, "default": 1}, 0, "record wait completed, unless go came"),
        ({"timeout": 1, "default": 1}, 0, f"park until {SECOND} for signal go"),
    ],
)
def test_a_wait_without_a_message(options: dict[str, Any], now: int, decided: str) -> None:
    assert said(run_of(waiting(**options)), now) == [decided]


def test_a_message_that_is_there_goes_before_the_timeout() -> None:
    state = run_of(waiting(timeout=0))
    heard(state, "go")
    assert said(state, 9 * SECOND) == ["record wait completed, using message 1"]


def test_a_message_that_comes_at_once_is_used_no_earlier_than_its_wait_began() -> None:
    state = run_of(waiting(timeout=1), lag=500)
    (park,) = decide(state, 5)
    apply_decision(state, park)  # type: ignore[arg-type]  # it is a park
    heard(state, "go")
    (record,) = decide(state, 6)
    assert isinstance(record, Record)
    assert (record.row.started_at, record.row.finished_at) == (6, 6)


@pytest.mark.parametrize(("now", "decided"), [(0, f"park until {SECOND}"), (SECOND, "record nap completed")])
def test_a_sleep_lasts_until_its_instant(now: int, decided: str) -> None:
    state = run_of(durable("flow").sleep("nap", 1))
    (park,) = decide(state, 0)
    apply_decision(state, park)  # type: ignore[arg-type]  # it is a park
    assert said(state, now) == [decided]


def test_a_child_is_spawned_once_and_its_end_is_waited_for_and_used() -> None:
    state = run_of(durable("flow").child_workflow("child", "leaf"))
    (spawn,) = decide(state, 0)
    assert said(state) == ["spawn leaf"]
    apply_decision(state, spawn)  # type: ignore[arg-type]  # it is a spawn
    assert said(state) == ["park for child child"]
    heard(state, "child", b"{}", kind="child")
    assert said(state) == ["record child completed, using message 1"]


def test_a_child_that_failed_fails_its_node_with_its_error() -> None:
    state = run_of(durable("flow").child_workflow("child", "leaf"))
    heard(state, "child", kind="child", error=NO)
    assert said(state) == ["record child failed ValueError, using message 1"]


def test_an_input_that_is_mapped_for_a_child_is_mapped_first() -> None:
    assert said(run_of(durable("flow").child_workflow("child", "leaf", map_input=print))) == ["call child"]


@pytest.mark.parametrize(
    ("rows", "now", "decided"),
    [
        ([], 0, "call poll"),
        ([row(1, "poll", item=item_of(1), detail=b"next 0 -")], 0, "call poll"),
        ([row(1, "poll", item=item_of(1), detail=b"next 50 -")], 49, "park until 50"),
        ([row(1, "poll", item=item_of(1), detail=b"end")], 0, 'complete {"poll":1}'),
        ([retrying(1, "poll", until=50, item=item_of(1))], 50, "call poll, attempt 2"),
    ],
)
def test_a_loop_goes_on_as_its_last_iteration_says(rows: list[JournalRow], now: int, decided: str) -> None:
    assert said(run_of(durable("flow").loop("poll", print, max_iterations=9), *rows), now) == [decided]


def test_a_route_is_chosen_once_and_then_its_branch_is_called() -> None:
    flow = durable("flow").route("way", print, {"left": print, "right": print})
    assert said(run_of(flow)) == ["choose in way"]
    chosen = row(1, "way", phase="choose", kind="route", detail=b"left")
    assert said(run_of(flow, chosen)) == ["call way"]
    assert said(run_of(flow, chosen, row(2, "way"))) == ['complete {"way":1}']


def test_deciding_changes_nothing() -> None:
    state = run_of(both(), retrying(1, "both", until=50, item="air"))
    assert decide(state, 50) == decide(state, 50)
