"""What may have happened: what of a run that goes no further was called, or may have been, and is to be undone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from stepwell import Branch, durable
from stepwell.core.attempts import failed as failed_attempt
from stepwell.core.decide import decide
from stepwell.core.decisions import Call, Record
from stepwell.core.journal import ASKED, ASKED_AGAIN, UNCALLED, item_of
from stepwell.core.plan import plan_of
from stepwell.core.state import begin, doubt, end, replay, stop
from stepwell.engine.driving.restore import restored
from stepwell.errors import Failure
from stepwell.store.codec import PLAIN
from stepwell.store.records import Lease
from tests.unit.states import failed, retrying, row, run_of, said

UNDO: Any = {"compensate": print, "undo": "attempted"}
BOTH = durable("both").parallel("both", {"one": Branch(print, print, undo="attempted"), "two": Branch(print, print)})
ONE_FAILED = failed(1, "both", item="two")


def test_i5_an_entry_that_was_tried_gets_an_outcome_before_the_run_is_undone() -> None:
    rows = [retrying(1, "both", item="one", until=99), failed(2, "both", item="two")]
    assert said(run_of(BOTH, *rows)) == ["record one failed Abandoned"]
    rows = [failed(1, "both", item="one"), retrying(2, "both", item="two", until=99)]
    assert said(run_of(BOTH, *rows)) == ["compensate"]


@pytest.mark.parametrize("is_unknown", [False, True])
def test_i5_an_entry_without_a_row_counts_as_called_only_if_that_is_not_known(is_unknown: bool) -> None:  # noqa: FBT001  a case
    state = run_of(BOTH, ONE_FAILED, is_unknown=is_unknown)
    assert said(state) == (["record one failed Abandoned"] if is_unknown else ["fail ValueError"])


def test_i5_an_entry_that_was_stopped_counts_as_called_if_its_handler_was() -> None:
    state = run_of(BOTH)
    calls = [call for call in decide(state, 0) if isinstance(call, Call)]
    for call in calls:
        begin(state, call)
    replay(state, [ONE_FAILED])
    end(state, calls[1], began=True)
    assert said(state) == ["wait"]
    end(state, calls[0], began=True)
    stop(state, calls[0])
    assert said(state) == ["fail ValueError"]
    calls[0].was_called = True
    stop(state, calls[0])
    assert said(state) == ["record one failed Abandoned"]


def test_i5_the_iteration_after_one_that_failed_is_not_open() -> None:
    loop = durable("loop").loop("loop", print, max_iterations=3, **UNDO)
    rows = [row(1, "loop", item=item_of(1), detail=b"next 0 -"), failed(2, "loop", item=item_of(2))]
    state = run_of(loop, *rows, is_unknown=True)
    doubt(state)
    assert said(state) == ["compensate"]
    assert [one.item for one in state.undoable] == [item_of(1), item_of(2)]


def test_i5_an_iteration_that_may_have_been_called_before_its_condition_failed_is_undone() -> None:
    loop = durable("loop").loop("loop", print, max_iterations=3, when=print, **UNDO)
    state = run_of(loop, failed(1, "loop", detail=UNCALLED))
    assert said(state) == ["fail ValueError"]
    doubt(state)
    assert said(state) == ["record #000000001 failed Abandoned"]


def test_i5_a_condition_that_is_asked_again_does_not_hide_an_earlier_call() -> None:
    flow = durable("flow").step("one", print, when=print, max_retries=1, **UNDO)
    for is_unknown, details in ((False, [ASKED, UNCALLED]), (True, [ASKED_AGAIN, None])):
        rows: list[Any] = []
        for at in range(2):
            state = run_of(flow, *rows)
            if is_unknown and not at:
                doubt(state)
            (call,) = decide(state, 10**9)
            assert isinstance(call, Call)
            record = failed_attempt(state, call, ValueError(), Failure("one", "ValueError", ""), now=0, draw=0)
            rows.append(record.row)
        assert [one.detail for one in rows] == details


def test_i5_a_mapper_that_fails_calls_no_handler() -> None:
    flow = durable("flow").loop("loop", print, max_iterations=2, map_input=print, max_retries=0, **UNDO)
    state = run_of(flow)
    (call,) = decide(state, 0)
    assert isinstance(call, Call)
    record = failed_attempt(state, call, ValueError(), Failure("loop", "ValueError", ""), now=0, draw=0)
    assert (type(record), record.row.detail) == (Record, UNCALLED)


@pytest.mark.parametrize(
    ("facts", "is_unknown"),
    [
        ({"token": 1}, False),
        ({"token": 2}, True),
        ({"token": 2, "wake_at": 7}, False),
        ({"token": 2, "parked_at": 7}, False),
        ({"token": 2, "parked_at": 7, "crashes": 1}, True),
        ({"token": 2, "wake_at": 7, "crashes": 1}, True),
    ],
)
def test_i5_what_an_owner_may_have_called_that_left_no_row_is_known_from_its_lease(
    facts: dict[str, Any],
    is_unknown: bool,  # noqa: FBT001  a case
) -> None:
    host: Any = SimpleNamespace(worker_id="ann", max_crashes=5, codec=PLAIN)
    flow = durable("flow").step("one", print)
    lease = Lease("run", 1, 1, 0, 0, 0, 1, 0, "running", None, None, None, None, b"1")._replace(**facts)
    state = restored(host, lease, plan_of(flow.name, flow.nodes), None, "running", is_new=True)
    assert state.is_unknown == is_unknown
