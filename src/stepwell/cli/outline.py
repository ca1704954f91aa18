"""How far each node of a run has come, from its snapshot and journal: pure, for the progress of `run`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from stepwell import RunStatus
from stepwell.cli import text
from stepwell.cli.views import ENDED, failure, outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from stepwell import Entry, RunSnapshot, Workflow

State: TypeAlias = Literal["to come", "running", "waiting", "done", "skipped", "failed", "undone", "canceled"]


@dataclass(frozen=True, slots=True)
class Outline:
    """A node as far as progress needs it: `names` are those its entries in the journal may have."""

    name: str
    kind: str
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class NodeLine:
    """A node's line: its state, how long it took or has taken so far, and a word on it."""

    name: str
    state: State
    took: timedelta | None = None
    note: str = ""


def outlines_of(workflow: Workflow) -> list[Outline]:
    """The outline of each node, in order."""
    return [
        Outline(node.name, node.kind, frozenset([node.name, *getattr(node, "entries", ())])) for node in workflow.nodes
    ]


def node_lines(outlines: Sequence[Outline], run: RunSnapshot, entries: Sequence[Entry], at: datetime) -> list[NodeLine]:
    """A line for each node of the workflow."""
    lines = []
    for index, node in enumerate(outlines):
        own = [entry for entry in entries if entry.node in node.names]
        done = [entry for entry in own if entry.kind != "compensate"]
        undone = [entry for entry in own if entry.kind == "compensate"]
        state = _state(index, run, done, undone)
        note = waiting_for(run, done, at) if state == "waiting" else _note(node, state, run, done, undone)
        lines.append(NodeLine(node.name, state, _took(state, run, entries, done, at), note))
    return lines


def waiting_for(run: RunSnapshot, entries: Sequence[Entry], at: datetime) -> str:
    """What a run that does nothing now waits for; nothing, if it is moving or has ended."""
    wakes = "" if run.wake_at is None else text.until(run.wake_at, at)
    if run.status == RunStatus.SUSPENDED and run.awaiting_signal is not None:
        return f"waiting for signal {run.awaiting_signal}" + (f", times out {wakes}" if wakes else "")
    if run.status == RunStatus.SUSPENDED:
        return _child(run)
    if run.status in ENDED or run.wake_at is None:
        return ""
    last = entries[-1] if entries else None
    if last is not None and last.status == "retrying":
        return f"attempt {last.attempt} failed: {outcome(last)}; again {wakes}"
    return f"wakes {wakes}" if run.status != RunStatus.PENDING else f"starts {wakes}"


def _state(index: int, run: RunSnapshot, done: Sequence[Entry], undone: Sequence[Entry]) -> State:
    if any(entry.status == "failed" for entry in done):
        return "failed"
    if undone:
        return "undone"
    if run.status == RunStatus.COMPLETED or index < run.current_step:
        return "skipped" if done and all(entry.status == "skipped" for entry in done) else "done"
    if index > run.current_step or run.status == RunStatus.PENDING:
        return "to come"
    if run.status == RunStatus.CANCELED:
        return "canceled"
    if run.status in ENDED:
        return "failed"
    return "waiting" if run.wake_at is not None or run.status == RunStatus.SUSPENDED else "running"


def _took(
    state: State, run: RunSnapshot, entries: Sequence[Entry], done: Sequence[Entry], at: datetime
) -> timedelta | None:
    if state in ("to come", "skipped", "canceled"):
        return None
    if state in ("running", "waiting"):
        others = [entry.finished_at for entry in entries if entry not in done]
        began = min([entry.started_at for entry in done] or [max(others, default=run.created_at)])
        return max(at - began, at - at)
    if not done:
        return None
    return max(entry.finished_at for entry in done) - min(entry.started_at for entry in done)


def _note(node: Outline, state: State, run: RunSnapshot, done: Sequence[Entry], undone: Sequence[Entry]) -> str:
    match state:
        case "failed":
            failed = next((entry.error for entry in done if entry.status == "failed" and entry.error), run.error)
            return "" if failed is None else failure(failed).removeprefix(f"{node.name}: ")
        case "undone":
            bad = [entry for entry in undone if entry.status == "failed"]
            return f"undoing failed: {outcome(bad[0])}" if bad else "undone"
        case "running":
            return _moving(node, done)
        case "done":
            return _told(node, done)
        case _:
            return ""


def _told(node: Outline, done: Sequence[Entry]) -> str:
    """A word on how a node was done."""
    outcomes = [entry for entry in done if entry.status == "completed"]
    words = []
    if node.kind == "route":
        words += [text.printable(str(entry.result)) for entry in outcomes if entry.kind == "route"]
    elif node.kind == "loop":
        words.append(f"{len(outcomes)} iteration{'s' if len(outcomes) != 1 else ''}")
    elif node.kind == "parallel":
        words.append(", ".join(entry.node for entry in outcomes))
    most = max((entry.attempt for entry in done), default=1)
    if most > 1:
        words.append(f"{most} attempts")
    return ", ".join(words)


def _moving(node: Outline, done: Sequence[Entry]) -> str:
    """A word on a node at work."""
    words = []
    outcomes = [entry for entry in done if entry.status == "completed"]
    if node.kind == "loop":
        words.append(f"iteration {len(outcomes) + 1}")
    elif node.kind == "parallel":
        words.append(f"{len(outcomes)} of {len(node.names) - 1}")
    if done and done[-1].status == "retrying":
        words.append(f"attempt {done[-1].attempt + 1}, after {outcome(done[-1])}")
    return ", ".join(words)


def _child(run: RunSnapshot) -> str:
    going = [child for child in run.children or () if child.status not in ENDED]
    if not going:
        return "waiting for its child run"
    child = going[-1]
    at = f", at {child.current_node}" if child.current_node else ""
    return f"child run {child.run_id[: text.SHORT_ID]} {child.status}{at}"
