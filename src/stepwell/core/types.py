"""What a workflow's values are declared to be, by the names under which they are found; made once for each plan.

A value that is not declared is in none of the tables, so that it is read at the cost of a look-up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec

from stepwell.workflow.declared import DeclaredType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepwell.workflow.annotations import Declaration
    from stepwell.workflow.declared import ValueType


class Declares(NamedTuple):
    """What one node declares: each by the name under which the value is found."""

    results: Mapping[str, Declaration] = {}
    handlers: Mapping[str, tuple[object, ...]] = {}
    """The handlers whose results are found under a name."""
    snapshots: Mapping[str, Declaration] = {}
    resumes: Mapping[str, Declaration] = {}
    payloads: Mapping[str, Declaration] = {}
    """By the signal's name."""


@dataclass
class PlanTypes:
    """The declared types of one plan."""

    input: DeclaredType | None = None
    results: dict[str, ValueType] = field(default_factory=dict)
    snapshots: dict[str, ValueType] = field(default_factory=dict)
    resumes: dict[str, ValueType] = field(default_factory=dict)
    payloads: dict[str, ValueType] = field(default_factory=dict)
    """By the signal's name; of several waits for one signal, the last."""
    handlers: dict[str, tuple[object, ...]] = field(default_factory=dict)

    def add(self, node: Declares) -> None:
        """Adds what a node declares."""
        for own, declared in (
            (self.results, node.results),
            (self.snapshots, node.snapshots),
            (self.resumes, node.resumes),
            (self.payloads, node.payloads),
        ):
            own.update({name: one.type for name, one in declared.items() if one.type is not None})
        self.handlers.update(node.handlers)

    @property
    def schemas(self) -> dict[str, Any]:
        """The JSON schemas of what is declared, by the place of the value, copied; those of children are theirs."""
        copy: dict[str, Any] = msgspec.json.decode(self._schemas)
        return copy

    @cached_property
    def _schemas(self) -> bytes:
        found: dict[str, Any] = {} if self.input is None else {"input": self.input.schema()}
        for place, types in (
            ("results", self.results),
            ("snapshots", self.snapshots),
            ("resumes", self.resumes),
            ("payloads", self.payloads),
        ):
            own = {name: one.schema() for name, one in sorted(types.items()) if isinstance(one, DeclaredType)}
            if own:
                found[place] = own
        return msgspec.json.encode(found)

    @cached_property
    def encoded_schemas(self) -> bytes:
        """The schemas as stored; equal bytes for equal declarations."""
        return msgspec.json.encode(self.schemas, order="sorted")

    def named(self, function: object) -> list[str]:
        """The names under which the results of a handler are found."""
        return [name for name, handlers in self.handlers.items() if any(one == function for one in handlers)]


Children: TypeAlias = "Callable[[str], PlanTypes]"
"""The types of a registered workflow, by its name."""
NO_PLAN_TYPES = PlanTypes()
