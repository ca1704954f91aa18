"""The progress of each node of a run as text, for the display of `run`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepwell import RunStatus
from stepwell.cli import text
from stepwell.cli.views import ENDED, failure, outcome
from stepwell.reading.node_states import node_states

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from stepwell import Entry, RunSnapshot
    from stepwell.reading.node_states import NodeState, State
    from stepwell.workflow.nodes import Node


@dataclass(frozen=True, slots=True)
class NodeLine:
    """A node's line: its state, its duration so far, and a note."""

    name: str
    state: State
    took: timedelta | None = None
    note: str = ""


def node_lines(nodes: Sequence[Node], run: RunSnapshot, entries: Sequence[Entry], at: datetime) -> list[NodeLine]:
    """A line for each node of the workflow."""
    return [
        NodeLine(
            one.name,
            one.state,
            one.took,
            waiting_for(run, one.done, at) if one.state == "waiting" else _detail(one, run),
        )
        for one in node_states(nodes, run, entries, at)
    ]


def waiting_for(run: RunSnapshot, entries: Sequence[Entry], at: datetime) -> str:
    """What an idle run waits for; empty if the run is moving or has ended."""
    wakes = "" if run.wake_at is None else text.until(run.wake_at, at)
    if run.status == RunStatus.SUSPENDED and run.awaiting_signals:
        return f"waiting for signal {', '.join(run.awaiting_signals)}" + (f", times out {wakes}" if wakes else "")
    if run.status == RunStatus.SUSPENDED:
        return _child(run)
    if run.status in ENDED or run.wake_at is None:
        return ""
    last = entries[-1] if entries else None
    if last is not None and last.status == "retrying":
        return f"attempt {last.attempt} failed: {outcome(last)}; next attempt {wakes}"
    return f"wakes {wakes}" if run.status != RunStatus.PENDING else f"starts {wakes}"


def _detail(node: NodeState, run: RunSnapshot) -> str:
    match node.state:
        case "failed":
            failed = next((entry.error for entry in node.done if entry.status == "failed" and entry.error), run.error)
            return "" if failed is None else failure(failed).removeprefix(f"{node.name}: ")
        case "compensated":
            bad = [entry for entry in node.undone if entry.status == "failed"]
            return f"compensation failed: {outcome(bad[0])}" if bad else "compensated"
        case "running":
            last = node.done[-1] if node.done else None
            again = last is not None and last.status == "retrying"
            return _joined(node.words, f"attempt {last.attempt + 1}, after {outcome(last)}" if last and again else "")
        case "done":
            most = max((entry.attempt for entry in node.done), default=1)
            return _joined(node.words, f"{most} attempts" if most > 1 else "")
        case _:
            return ""


def _joined(words: str, more: str) -> str:
    return ", ".join(word for word in (text.printable(words), more) if word)


def _child(run: RunSnapshot) -> str:
    going = [child for child in run.children or () if child.status not in ENDED]
    if not going:
        return "waiting for its child run"
    child = going[-1]
    at = f", at {child.current_node}" if child.current_node else ""
    return f"child run {child.run_id[: text.SHORT_ID]} {child.status}{at}"
