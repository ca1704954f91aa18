"""A node's functions, one by one: what tests call them, and a node's copy with others in their place."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from stepwell.workflow.nodes import branch_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepwell.workflow.nodes import Branch, Function


UNDO = "undo "
"""What stands before a name when its compensator is meant; no node's name holds a space."""


class FunctionName(NamedTuple):
    """A handler's or compensator's name, as reports show it, and the others it goes by."""

    shown: str
    others: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every name it goes by."""
        return (self.shown, *self.others)

    @property
    def undo(self) -> FunctionName:
        """The name of its compensator."""
        return FunctionName(UNDO + self.shown, tuple(UNDO + other for other in self.others))


Change: TypeAlias = "Callable[[FunctionName, Function], Function]"
"""Gives the function to take the place of the named one."""


def changed_undo(function: Function | None, handler: FunctionName, change: Change) -> Function | None:
    """The compensator of this handler, changed; None where there is none."""
    return None if function is None else change(handler.undo, function)


def changed_branches(
    branches: Mapping[str, Branch], change: Change, name_of: Callable[[str], FunctionName]
) -> Mapping[str, Branch]:
    """The branches, with their functions changed, each under the name that it is given."""
    changed = {}
    for branch, functions in branches.items():
        name = name_of(branch)
        handler = change(name, functions.handler)
        changed[branch] = branch_of(functions, handler, changed_undo(functions.compensate, name, change))
    return MappingProxyType(changed)
