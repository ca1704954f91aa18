"""Runs and journals for the tests of the core, and decisions as words, so that a table of cases reads as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.core.attempts import asks
from stepwell.core.decide import decide
from stepwell.core.decisions import Call, Cancel, Compensate, Complete, Decision, Fail, Park, Record, Spawn, Wait
from stepwell.core.journal import JournalRow
from stepwell.core.mailbox import Message, MessageName
from stepwell.core.plan import plan_of
from stepwell.core.state import RunState, look, replay
from stepwell.errors import Failure
from stepwell.store.codec import PLAIN

if TYPE_CHECKING:
    from stepwell import Workflow

NO = Failure("step", "ValueError", "no")
_VERBS = {"choose": "choose in", "do": "call", "undo": "undo"}


def row(seq: int, node: str, **facts: Any) -> JournalRow:
    """The row of a step that has completed, but for these facts."""
    plain = JournalRow(1, seq, node, "", "do", 0, "step", 1, "completed", b"1", None, None, None, 10, 20, "ann")
    return plain._replace(**facts)


def failed(seq: int, node: str, **facts: Any) -> JournalRow:
    """The row of work that has failed for good."""
    return row(seq, node, **{"status": "failed", "value": None, "error": NO, **facts})


def retrying(seq: int, node: str, n: int = 1, *, until: int, **facts: Any) -> JournalRow:
    """The row of a failed attempt after which another may begin at that instant."""
    usual = {"status": "retrying", "value": None, "error": NO, "retry_at": until, "n": n, "attempt": n}
    return row(seq, node, **{**usual, **facts})


def undone(seq: int, node: str, **facts: Any) -> JournalRow:
    """The row of what was undone."""
    return row(seq, node, **{"phase": "undo", "kind": "compensate", "value": None, **facts})


def run_of(flow: Workflow, *rows: JournalRow, **facts: Any) -> RunState:
    """A run of the workflow that has come as far as these rows."""
    state = RunState("run-7", 1, plan_of(flow.name, flow.nodes), "ann", b"{}", PLAIN, **facts)
    replay(state, rows)
    return state


def heard(
    state: RunState, name: str, value: bytes = b"7", *, kind: Any = "signal", error: Failure | None = None
) -> None:
    """Brings the run a message."""
    found = Message(state.messages + 1, kind, name, None if error else value, error)
    look(state, [MessageName(kind, name)], state.messages + 1, [found])


def said(state: RunState, now: int = 0) -> list[str]:
    """What the run decides at that instant, in words."""
    return [in_words(decision) for decision in decide(state, now)]


def in_words(decision: Decision) -> str:
    """A decision in words."""
    match decision:
        case Call():
            verb = "ask" if asks(decision) else _VERBS[decision.phase]
            attempt = f", attempt {decision.attempt}" if decision.attempt > 1 else ""
            message = f" with message {decision.resume[0]}" if decision.resume else ""
            return f"{verb} {decision.step}{attempt}{message}"
        case Record(row, consumed, absent):
            error = f" {row.error.type}" if row.error else ""
            used = f", using message {consumed[0]}" if consumed else ""
            unless = f", unless {absent.name} came" if absent else ""
            return f"record {row.item or row.node} {row.status}{error}{used}{unless}"
        case Park(_, wake_at, absent):
            until = "" if wake_at is None else f" until {wake_at}"
            names = ", ".join(f"{one.kind} {one.name}" for one in absent)
            return f"park{until}" + (f" for {names}" if names else "")
        case Spawn(child):
            return f"spawn {child.workflow}"
        case Wait(until, absent):
            names = ", ".join(f"{one.kind} {one.name}" for one in absent)
            return ("wait" if until is None else f"wait until {until}") + (f" for {names}" if names else "")
        case Compensate() | Cancel():
            return type(decision).__name__.lower()
        case Complete(results):
            return f"complete {results.decode()}"
        case Fail(failure):
            return f"fail {failure.type}"
