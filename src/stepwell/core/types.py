"""What a workflow's values are declared to be, by the names under which they are found; made once for each plan.

A value that is not declared is in none of the tables, so that it is read at the cost of a look-up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepwell.workflow.annotations import Declaration
    from stepwell.workflow.declared import DeclaredType, ValueType


class Declares(NamedTuple):
    """What one node declares: each by the name under which the value is found."""

    results: Mapping[str, Declaration] = {}
    handlers: Mapping[str, tuple[object, ...]] = {}
    """The handlers whose results are found under a name."""
    snapshots: Mapping[str, Declaration] = {}
    resumes: Mapping[str, Declaration] = {}


@dataclass(slots=True)
class PlanTypes:
    """The declared types of one plan."""

    input: DeclaredType | None = None
    results: dict[str, ValueType] = field(default_factory=dict)
    snapshots: dict[str, ValueType] = field(default_factory=dict)
    resumes: dict[str, ValueType] = field(default_factory=dict)
    handlers: dict[str, tuple[object, ...]] = field(default_factory=dict)

    def add(self, node: Declares) -> None:
        """Adds what a node declares."""
        for own, declared in (
            (self.results, node.results),
            (self.snapshots, node.snapshots),
            (self.resumes, node.resumes),
        ):
            own.update({name: one.type for name, one in declared.items() if one.type is not None})
        self.handlers.update(node.handlers)

    def named(self, function: object) -> list[str]:
        """The names under which the results of a handler are found."""
        return [name for name, handlers in self.handlers.items() if any(one == function for one in handlers)]


Children: TypeAlias = "Callable[[str], PlanTypes]"
"""The types of a registered workflow, by its name."""
NO_PLAN_TYPES = PlanTypes()
