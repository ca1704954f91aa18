"""A file per kind of node; `KINDS` is the only list of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.core.kinds.child import ChildKind
from stepwell.core.kinds.kind import Kind
from stepwell.core.kinds.loop import LoopKind
from stepwell.core.kinds.parallel import ParallelKind
from stepwell.core.kinds.route import RouteKind
from stepwell.core.kinds.signal import SignalKind
from stepwell.core.kinds.sleep import SleepKind
from stepwell.core.kinds.step import StepKind
from stepwell.core.kinds.unknown import UnknownKind, UnknownNode
from stepwell.workflow.nodes import ChildWorkflow, Loop, Parallel, Route, Sleep, Step, WaitForSignal

if TYPE_CHECKING:
    from stepwell.workflow.nodes import Node

__all__ = ["KINDS", "UNKNOWN", "Kind", "kind_of"]

KINDS: dict[type[Node], Kind[Any]] = {
    Step: StepKind(),
    Parallel: ParallelKind(),
    Route: RouteKind(),
    Loop: LoopKind(),
    Sleep: SleepKind(),
    WaitForSignal: SignalKind(),
    ChildWorkflow: ChildKind(),
}
"""By class of node."""
UNKNOWN = UnknownKind()
"""Answers for nodes of a stored outline whose kind is not in the list."""


def kind_of(node: Node) -> Kind[Any]:
    """What answers for this node; asked once a plan, not once a step."""
    return UNKNOWN if isinstance(node, UnknownNode) else KINDS[type(node)]
