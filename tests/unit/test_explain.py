"""Why a run is not moving, from rows alone: each reason, and which one is told where several are true."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stepwell import Action, Reason
from stepwell.core.journal import JournalRow
from stepwell.errors import Failure
from stepwell.reading.explain import explanations
from stepwell.store.records import Child, Definition, Lane, Offer, Page, RunRow, Situation, WorkerRow
from stepwell.workflow.durations import moment

NOW = 1_700_000_000_000_000
SECOND = 1_000_000
LEASE = 10 * SECOND


def outline(*nodes: str) -> bytes:
    """Nodes as `kind name`, or `signal name=signal`."""
    made = []
    for node in nodes:
        kind, _, name = node.partition(" ")
        name, _, signal = name.partition("=")
        made.append({"name": name, "kind": kind, **({"signal": signal} if signal else {})})
    return msgspec.json.encode(made)


MINE = outline("step reserve", "step ship", "signal wait=go")
RUN = RunRow(
    "run-7",
    None,
    "order",
    "running",
    1,
    None,
    None,
    None,
    NOW - 60 * SECOND,
    NOW - 30 * SECOND,
    None,
    MINE,
    None,
    0,
    0,
    None,
    NOW - 20 * SECOND,
    1,
    "durable",
    "f" * 24,
)
WORKER = WorkerRow("ann", 1, SECOND, "host-a", 41, dead=False, offer=Offer([1], 10, LEASE))
SERVED = {1: Definition(Lane("durable", "order", "f" * 24), MINE)}
RETRY = JournalRow(
    1,
    3,
    "ship",
    "",
    "do",
    2,
    "step",
    2,
    "retrying",
    None,
    None,
    Failure("ship", "OSError", "no\ntruck"),
    NOW + 4 * SECOND,
    NOW - 9 * SECOND,
    NOW - 8 * SECOND,
    "ann",
)
FAILED = RETRY._replace(n=0, status="failed", attempt=4, retry_at=None)


def why(run: RunRow, **around: Any) -> Any:
    """Its explanation, with one worker that serves it unless told otherwise."""
    facts: dict[str, Any] = {
        "retries": {},
        "children": [],
        "held": {},
        "served": SERVED,
        "rows": {},
        "workers": [WORKER],
    }
    facts |= around
    page = Page([run], facts["rows"], facts["retries"])
    situation = Situation(NOW, page, facts["children"], facts["held"], facts["served"])
    told = explanations(situation, facts["workers"], shared=True, max_crashes=5)[run.run_id]
    assert "".join(part.text for part in told.parts) == told.sentence
    assert told.sentence.isprintable()
    assert told.sentence.endswith(".")
    assert {action.kind for action in told.actions} <= {"link", "form", "confirm"}
    return told


OTHER = outline("step reserve", "step send", "signal wait=go")
PARKED = RUN._replace(due_at=None, status="suspended", position=2)
ASLEEP = RUN._replace(due_at=NOW + 4 * SECOND, wake_at=NOW + 4 * SECOND)
SERVING_OTHER = {
    "workers": [WORKER._replace(offer=Offer([2], 10, LEASE))],
    "served": {2: Definition(Lane("durable", "order", "9" * 24), OTHER)},
}
CASES: dict[str, tuple[RunRow, dict[str, Any], Reason, str]] = {
    "a worker works on it": (
        RUN._replace(worker="ann", due_at=None),
        {},
        Reason.RUNNING_HANDLER,
        "It is at ship, attempt 1, on worker ann (host host-a, process 41).",
    ),
    "a worker tries it again": (
        RUN._replace(worker="ann", due_at=None),
        {"retries": {"run-7": RETRY}},
        Reason.RUNNING_HANDLER,
        (
            "It is at ship, attempt 3, on worker ann (host host-a, process 41), after attempt 2 of ship failed: "
            "OSError: no truck."
        ),
    ),
    "it is undone": (
        RUN._replace(worker="ann", due_at=None, status="compensating"),
        {"rows": {"run-7": [FAILED]}},
        Reason.COMPENSATING,
        "It is undoing what completed, attempt 1, on worker ann (host host-a, process 41).",
    ),
    "its worker is silent": (
        RUN._replace(worker="ann", due_at=None),
        {"workers": [WORKER._replace(silent_for=LEASE + 1)]},
        Reason.WORKER_SILENT,
        (
            "Worker ann (host host-a, process 41), which holds it at ship, is silent; another worker takes over as "
            "soon as it sees that."
        ),
    ),
    "its worker is gone": (
        RUN._replace(worker="bob", due_at=None),
        {},
        Reason.WORKER_SILENT,
        "Worker bob, which holds it at ship, is dead; another worker takes over as soon as it sees that.",
    ),
    "its worker is known to be dead": (
        RUN._replace(worker="ann", due_at=None),
        {"workers": [WORKER._replace(dead=True)]},
        Reason.WORKER_SILENT,
        "Worker ann, which holds it at ship, is dead; another worker takes over as soon as it sees that.",
    ),
    "it starts later": (
        RUN._replace(status="pending", position=0, due_at=NOW + 4 * SECOND, wake_at=NOW + 4 * SECOND),
        {},
        Reason.DELAYED,
        "It starts at 2023-11-14 22:13:24 UTC.",
    ),
    "it tries again later": (
        ASLEEP,
        {"retries": {"run-7": RETRY}},
        Reason.RETRYING,
        "ship: attempt 2 failed with OSError: no truck; next try at 2023-11-14 22:13:24 UTC.",
    ),
    "its compensator tries again later": (
        ASLEEP._replace(status="compensating"),
        {"retries": {"run-7": RETRY._replace(phase="undo")}, "rows": {"run-7": [FAILED]}},
        Reason.RETRYING,
        "The compensator of ship: attempt 2 failed with OSError: no truck; next try at 2023-11-14 22:13:24 UTC.",
    ),
    "it sleeps": (ASLEEP, {}, Reason.SLEEPING, "It sleeps at ship until 2023-11-14 22:13:24 UTC."),
    "it waits for a signal": (
        PARKED._replace(awaiting="go"),
        {},
        Reason.AWAITING_SIGNAL,
        "It waits at wait for signal go.",
    ),
    "it waits for a signal and no longer": (
        PARKED._replace(awaiting="go", wake_at=NOW + SECOND, due_at=NOW + SECOND),
        {},
        Reason.AWAITING_SIGNAL,
        "It waits at wait for signal go, until 2023-11-14 22:13:21 UTC.",
    ),
    "it waits for a child": (
        PARKED._replace(position=1),
        {"children": [Child("run-8", "run-7", "invoice", "running")]},
        Reason.AWAITING_CHILD,
        "It waits at ship for its child run run-8 (invoice, running).",
    ),
    "no worker is alive": (
        RUN,
        {"workers": [WORKER._replace(silent_for=LEASE + 1)]},
        Reason.DUE_NO_WORKER,
        "It is due. No living worker serves its queue durable; none is alive.",
    ),
    "no worker serves its queue": (
        RUN._replace(queue="bulk", lane=2),
        {},
        Reason.DUE_NO_WORKER,
        "It is due. No living worker serves its queue bulk; those alive serve: durable.",
    ),
    "workers have another version": (
        RUN,
        SERVING_OTHER,
        Reason.NO_WORKER_HAS_DEFINITION,
        (
            "It is due. No living worker has its definition (order ffffffff): those alive have 99999999, where node 2 "
            "is send, not ship."
        ),
    ),
    "workers have other workflows": (
        RUN._replace(workflow="refund"),
        SERVING_OTHER,
        Reason.NO_WORKER_HAS_DEFINITION,
        (
            "It is due. No living worker has its definition (refund ffffffff): those of its queue do not know this "
            "workflow, but order."
        ),
    ),
    "it sleeps and nobody will go on with it": (
        ASLEEP,
        SERVING_OTHER,
        Reason.SLEEPING,
        (
            "It sleeps at ship until 2023-11-14 22:13:24 UTC. No living worker has its definition (order ffffffff): "
            "those alive have 99999999, where node 2 is send, not ship."
        ),
    ),
    "workers died of it": (
        RUN._replace(crashes=3),
        {},
        Reason.SUSPECT,
        (
            "3 workers died while they held it, with nothing of it journaled in between. It is due; few such runs are "
            "claimed at a time. After 2 more deaths its node fails for good."
        ),
    ),
    "workers have no room": (
        RUN,
        {"held": {"ann": 20}},
        Reason.WORKERS_FULL,
        "It is due, and waits for its turn at worker ann, holding 20 of at most 20 runs.",
    ),
    "a worker parked it as damaged": (
        RUN._replace(damaged="row 2 is missing", due_at=NOW + SECOND),
        {},
        Reason.DAMAGED,
        (
            "Its stored rows are not understood: row 2 is missing. It is parked as it is: a worker looks at it again "
            "at 2023-11-14 22:13:21 UTC, and one of another release or of other definitions at once."
        ),
    ),
    "it was damaged, and is canceled": (
        RUN._replace(damaged="row 2 is missing", status="canceled", due_at=None),
        {},
        Reason.ENDED,
        "It was canceled.",
    ),
    "it waits for a damaged child": (
        PARKED._replace(position=1),
        {"children": [Child("run-8", "run-7", "invoice", "running", "row 2 is missing")]},
        Reason.DAMAGED,
        (
            "It waits at ship for its child run run-8 (invoice, running), whose stored rows are not understood: "
            "row 2 is missing."
        ),
    ),
    "its row is damaged": (
        RUN._replace(position=9),
        {},
        Reason.DAMAGED,
        "Its stored rows are not understood: its row says node 9 of 3.",
    ),
    "a worker put it off": (
        RUN._replace(due_at=NOW + SECOND),
        {},
        Reason.DAMAGED,
        "A worker could not go on with it, and put it off until 2023-11-14 22:13:21 UTC; its log says why.",
    ),
    "nothing would ever move it": (
        RUN._replace(due_at=None),
        {},
        Reason.DAMAGED,
        "Nothing that is stored would ever move it: it is neither due nor waits for anything.",
    ),
    "it completed": (
        RUN._replace(status="completed", position=3, due_at=None, finished_at=NOW),
        {},
        Reason.ENDED,
        "It completed.",
    ),
    "it was canceled": (
        RUN._replace(status="canceled", due_at=None, finished_at=NOW),
        {},
        Reason.ENDED,
        "It was canceled.",
    ),
    "it failed": (
        RUN._replace(status="failed", due_at=None, finished_at=NOW),
        {"rows": {"run-7": [FAILED, FAILED._replace(node="reserve", phase="undo")]}},
        Reason.ENDED,
        "It failed at ship: OSError: no truck. Not undone, since their compensators failed: reserve.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_reason_is_told_in_a_sentence(case: str) -> None:
    run, around, reason, sentence = CASES[case]
    told = why(run, **around)

    assert (told.reason, told.sentence) == (reason, sentence)


def test_every_reason_but_the_reserved_ones_is_among_the_cases() -> None:
    reserved = {"queue_limit", "queue_paused", "rate_limit", "cancel_requested", "value_does_not_decode"}

    assert {reason for _, _, reason, _ in CASES.values()} == set(Reason) - reserved


def test_names_are_told_from_words() -> None:
    told = why(PARKED._replace(awaiting="go"))

    assert [part.text for part in told.parts if part.is_name] == ["wait", "go"]


def test_since_and_until_are_by_the_stores_clock() -> None:
    told = why(ASLEEP, retries={"run-7": RETRY})

    assert (told.since, told.until) == (moment(RETRY.finished_at), moment(NOW + 4 * SECOND))
    assert (why(RUN).since, why(RUN).until) == (moment(NOW - 20 * SECOND), None)


def test_what_is_due_at_once_is_due_since_its_row_was_written() -> None:
    at_once = RUN._replace(due_at=-(1 << 62) + 7)

    for told in (why(at_once), why(at_once, workers=[]), why(at_once._replace(crashes=3))):
        assert told.since == moment(RUN.updated_at)


def test_an_iteration_is_named_by_its_number() -> None:
    told = why(ASLEEP, retries={"run-7": RETRY._replace(item="#000000012")})

    assert told.sentence.startswith("ship #12: attempt 2 failed with ")
    assert told.brief == "attempt 2 of ship #12 failed"


def test_what_is_being_undone_is_told_from_what_is_tried_again() -> None:
    told = why(ASLEEP._replace(status="compensating"), retries={"run-7": RETRY._replace(phase="undo")})

    assert told.brief == "attempt 2 of undoing ship failed"


def test_what_would_move_it_is_a_command() -> None:
    told = why(PARKED._replace(awaiting="go"))

    assert told.actions[0] == Action("signal", "Send go", "stepwell signal run-7 go DATA", "form")
    assert [action.command for action in why(RUN, workers=[]).actions] == [
        "stepwell worker --queue durable",
        "stepwell cancel run-7",
    ]


def test_of_several_children_the_last_is_the_one_that_is_waited_for() -> None:
    children = [Child("run-8", "run-7", "invoice", "completed"), Child("run-9", "run-7", "parcel", "running")]
    told = why(PARKED._replace(position=1), children=children)

    assert told.sentence == "It waits at ship for its child run run-9 (parcel, running)."
    assert told.actions[0].command == "stepwell why run-9"


def test_what_only_dead_workers_served_is_not_told_as_what_those_alive_have() -> None:
    alive, dead = WORKER._replace(offer=Offer([2], 10, LEASE)), WORKER._replace(offer=Offer([3], 10, LEASE), dead=True)
    served = {number: Definition(Lane("durable", "order", digit * 24), OTHER) for number, digit in ((2, "9"), (3, "8"))}
    told = why(RUN, workers=[alive, dead], served=served)

    assert "those alive have 99999999" in told.sentence


def test_in_memory_no_worker_is_silent() -> None:
    worker = WORKER._replace(silent_for=LEASE * 100)
    situation = Situation(NOW, Page([RUN._replace(worker="ann", due_at=None)], {}), [], {}, SERVED)
    told = explanations(situation, [worker], shared=False, max_crashes=5)["run-7"]

    assert told.reason is Reason.RUNNING_HANDLER


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (("step reserve", "step ship"), "node 3 is gone: wait"),
        (("step reserve", "step ship", "signal wait=go", "step bill"), "node 4 is new: bill"),
        (("step reserve", "loop ship", "signal wait=go"), "node ship is a loop, not a step"),
        (("step reserve", "step ship", "signal wait=stop"), "node wait waits for stop, not for go"),
    ],
)
def test_the_first_node_at_which_two_versions_differ_is_named(new: tuple[str, ...], words: str) -> None:
    served = {2: Definition(Lane("durable", "order", "9" * 24), outline(*new))}
    told = why(RUN, **{**SERVING_OTHER, "served": served})

    assert f"where {words}." in told.sentence
