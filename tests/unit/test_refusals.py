"""What a wait decides about payloads that do not fit: one row each, then a count, and the wait goes on."""

from __future__ import annotations

from datetime import date
from typing import Any

from stepwell import Branch, Suspended, durable
from stepwell.core.attempts import settled
from stepwell.core.decide import decide
from stepwell.core.decisions import Call, Record, Snapshot
from stepwell.core.refusals import MOST, refused_after
from stepwell.core.state import RunState, apply_decision
from tests.unit.states import heard, run_of, said


def refuse(state: RunState, payload: bytes) -> Record:
    """Brings the run a payload that it refuses, and takes the refusal in."""
    heard(state, "go", payload)
    (record,) = decide(state, 0)
    assert isinstance(record, Record)
    apply_decision(state, record)
    return record


def test_i6_a_payload_that_does_not_fit_its_wait_is_refused_and_the_wait_goes_on() -> None:
    state = run_of(durable("order").wait_for_signal("wait", "go", payload=date))
    heard(state, "go", b'"soon"')
    assert said(state) == ["record wait refused PayloadError, using message 1"]
    (record,) = decide(state, 0)
    assert isinstance(record, Record)
    assert (record.row.kind, record.row.n, record.row.value) == ("signal", 1, b'"soon"')
    apply_decision(state, record)
    assert said(state) == ["park for signal go"]
    heard(state, "go", b'"2026-12-01"')
    assert said(state) == ["record wait completed, using message 2"]


def test_i6_a_wait_has_a_hundred_refused_rows_and_counts_what_follows_in_the_last() -> None:
    state = run_of(durable("order").wait_for_signal("wait", "go", payload=int))
    rows = [refuse(state, b'"%d"' % number).row for number in range(MOST + 3)]
    assert [row.n for row in rows] == [*range(1, MOST + 1), MOST, MOST, MOST]
    assert [refused_after(row) for row in rows[MOST - 1 :]] == [0, 1, 2, 3]
    assert (state.seq, rows[-1].value) == (MOST, b'"99"')
    stored = [*rows[: MOST - 1], rows[-1]]
    assert (
        refuse(run_of(durable("order").wait_for_signal("wait", "go", payload=int), *stored), b"{}").row.detail == b"4"
    )


def test_i6_a_suspended_entry_that_refuses_its_answer_waits_beside_the_others() -> None:
    def ask(ctx: Any) -> Any:
        return Suspended(1)

    flow = durable("order").parallel("all", {"go": Branch(ask, resume=int), "other": ask})
    state = run_of(flow)
    (first, _) = decide(state, 0)
    assert isinstance(first, Call)
    suspended = settled(state, first, Snapshot(b"1"), 0)
    assert isinstance(suspended, Record)
    apply_decision(state, suspended)
    assert refuse(state, b'"x"').row.item == "go"
    assert said(state) == ["call other"]
    heard(state, "go", b"7")
    assert sorted(said(state)) == ["call go with message 2", "call other"]
