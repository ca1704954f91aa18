"""A file per kind of node, all of one face; `face_of` is the only place that lists the kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, assert_never

from stepwell.core.nodes import child, loop, parallel, route, signal, sleep, step
from stepwell.workflow.nodes import (
    ChildWorkflow,
    Function,
    Loop,
    Node,
    Parallel,
    Route,
    Sleep,
    Step,
    WaitForSignal,
)

if TYPE_CHECKING:
    from stepwell.core.decisions import Decision
    from stepwell.core.model import JournalRow, MessageName, RunState
    from stepwell.core.work import Work


class Face(Protocol):
    """What the module of every kind of node answers."""

    def work(self, node: Any, state: RunState) -> Work:
        """The piece of work that the run stands before."""

    def moves(self, node: Any, state: RunState, now: int) -> tuple[Decision, ...]:
        """What the run should do at this node now."""

    def results(self, node: Any, state: RunState, row: JournalRow) -> dict[str, bytes] | None:
        """The node's results by name if this completed row ends it, else None."""

    def wanted(self, node: Any) -> MessageName | None:
        """The message that the node may look for in the mailbox, or None."""

    def compensator(self, node: Any, state: RunState, item: str) -> Function | None:
        """The function that undoes a completed piece of work of this node, or None."""


def face_of(node: Node) -> Face:
    """The module that decides for this kind of node."""
    match node:
        case Step():
            return step
        case Parallel():
            return parallel
        case Route():
            return route
        case Loop():
            return loop
        case Sleep():
            return sleep
        case WaitForSignal():
            return signal
        case ChildWorkflow():
            return child
        case _:
            assert_never(node)
