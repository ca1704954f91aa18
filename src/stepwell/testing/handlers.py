"""A workflow's functions, one by one: what they are called, and a copy of the workflow with others in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.app import durable
from stepwell.core.kinds import kind_of

if TYPE_CHECKING:
    from stepwell.core.kinds.functions import Change, FunctionName
    from stepwell.workflow.builder import Workflow
    from stepwell.workflow.nodes import Function


def changed(workflow: Workflow, change: Change) -> Workflow:
    """A copy of the workflow with the functions that `change` gives for its handlers and compensators."""
    copy = durable(workflow.name)
    copy._input_type = workflow.input_type
    copy._nodes = [kind_of(node).with_functions(node, change) for node in workflow.nodes]
    return copy


def names_in(workflow: Workflow) -> list[FunctionName]:
    """The names of the workflow's handlers and compensators."""
    found: list[FunctionName] = []

    def collect(name: FunctionName, function: Function) -> Function:
        found.append(name)
        return function

    changed(workflow, collect)
    return found
