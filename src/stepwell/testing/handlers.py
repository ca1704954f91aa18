"""A workflow's functions, one by one: what they are called, and a copy of the workflow with others in their place."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from stepwell.app import durable
from stepwell.workflow.nodes import Branch, ChildWorkflow, Loop, Node, Parallel, Route, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stepwell.workflow.builder import Workflow
    from stepwell.workflow.nodes import Function

UNDO = "undo "
"""What stands before a name, when its compensator is meant; no node's name holds a space."""


class Name(NamedTuple):
    """A handler's or compensator's name, as reports show it, and the others it goes by."""

    shown: str
    others: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every name it goes by."""
        return (self.shown, *self.others)


Change: TypeAlias = "Callable[[Name, Function], Function]"


def changed(workflow: Workflow, change: Change) -> Workflow:
    """A copy of the workflow with the functions that `change` gives for its handlers and compensators."""
    copy = durable(workflow.name)
    copy._nodes = [_changed(node, change) for node in workflow.nodes]
    return copy


def names_in(workflow: Workflow) -> list[Name]:
    """The names of the workflow's handlers and compensators."""
    found: list[Name] = []

    def note(name: Name, function: Function) -> Function:
        found.append(name)
        return function

    changed(workflow, note)
    return found


def _changed(node: Node, change: Change) -> Node:
    match node:
        case Step() | Loop():
            undo = _undone(node.compensate, Name(UNDO + node.name), change)
            return replace(node, handler=change(Name(node.name), node.handler), compensate=undo)
        case Parallel():
            entries = dict(_entries(node.entries, node.name, change, are_entries=True))
            return replace(node, entries=MappingProxyType(entries))
        case Route():
            branches = dict(_entries(node.branches, node.name, change, are_entries=False))
            return replace(node, branches=MappingProxyType(branches))
        case ChildWorkflow():
            return replace(node, compensate=_undone(node.compensate, Name(UNDO + node.name), change))
        case _:
            return node


def _entries(
    branches: Mapping[str, Branch], node: str, change: Change, *, are_entries: bool
) -> Iterator[tuple[str, Branch]]:
    """Entries are shown by their own names, since results are; a route's branch by its node's and its own."""
    for name, branch in branches.items():
        long = f"{node}/{name}"
        handler = Name(name, (long,)) if are_entries else Name(long, (name, node))
        undo = Name(UNDO + handler.shown, tuple(UNDO + other for other in handler.others))
        yield name, Branch(change(handler, branch.handler), _undone(branch.compensate, undo, change))


def _undone(function: Function | None, name: Name, change: Change) -> Function | None:
    return None if function is None else change(name, function)
