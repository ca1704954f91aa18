"""A workflow as it runs: its nodes with the kind of each, looked up once, and the fingerprint of their outline.

The fingerprint is the digest of everything that a stored position depends on. Two plans with the same fingerprint can
finish each other's runs; runs of another fingerprint wait for a worker that has it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.core.kinds import KINDS, UNKNOWN, kind_of
from stepwell.core.kinds.kind import text_in
from stepwell.core.types import NO_PLAN_TYPES, Children, PlanTypes
from stepwell.workflow.declared import Results

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepwell.core.flat import PlainStep
    from stepwell.core.kinds import Kind
    from stepwell.core.kinds.functions import FunctionName
    from stepwell.workflow.declared import DeclaredType, ValueType
    from stepwell.workflow.nodes import Function, Node


def _no_children(_: str) -> PlanTypes:
    """The types of an app without workflows."""
    return NO_PLAN_TYPES


@dataclass(frozen=True, slots=True)
class Plan:
    """A workflow that is registered: what the engine runs."""

    name: str
    nodes: tuple[Node, ...]
    kinds: tuple[Kind[Any], ...]
    plain: tuple[PlainStep | None, ...]
    """The steps of the flat path, each in its node's place."""
    fingerprint: str
    indexes: Mapping[str, int] = field(repr=False)
    types: PlanTypes = field(default_factory=PlanTypes, repr=False, compare=False)
    """What its values are declared to be."""
    child_types: Children = field(default=_no_children, repr=False, compare=False)
    """By the name of a registered workflow, what its values are declared to be."""
    has_code: bool = True
    """Whether the nodes have their functions; not those of a plan that was made of a stored outline."""


def plan_of(
    name: str, nodes: tuple[Node, ...], input_type: DeclaredType | None = None, child_types: Children = _no_children
) -> Plan:
    """The plan, with each node's kind in its place, and each node's place by its name."""
    indexes = MappingProxyType({node.name: at for at, node in enumerate(nodes)})
    kinds = tuple(map(kind_of, nodes))
    plain = tuple(kind.plain(node) for kind, node in zip(kinds, nodes, strict=True))
    types = PlanTypes(input_type)
    for kind, node in zip(kinds, nodes, strict=True):
        types.add(kind.declares(node))
        child = kind.child(node)
        if child is not None:
            types.results[node.name] = Results(child, partial(_results_of, child_types, child))
    return Plan(name, nodes, kinds, plain, fingerprint(name, nodes), indexes, types, child_types)


def _results_of(child_types: Children, workflow: str) -> Mapping[str, ValueType]:
    return child_types(workflow).results


def outlined_plan(name: str, outline: object) -> Plan:
    """The plan of a stored outline, by which a run can be read without its code; raises ValueError for no outline."""
    if not isinstance(outline, list):
        raise ValueError("an outline is a list of nodes")  # noqa: TRY004  what is stored was changed by hand
    nodes = tuple(map(_outlined, outline))
    indexes = MappingProxyType({node.name: at for at, node in enumerate(nodes)})
    return Plan(name, nodes, tuple(map(kind_of, nodes)), (None,) * len(nodes), "", indexes, has_code=False)


def _outlined(outline: object) -> Node:
    if not isinstance(outline, dict):
        raise ValueError("a node's outline is an object")  # noqa: TRY004  as above
    name, word = text_in(outline, "name"), text_in(outline, "kind")
    kind = next((kind for node_class, kind in KINDS.items() if getattr(node_class, "kind", None) == word), UNKNOWN)
    node: Node = kind.from_outline(name, outline)
    return node


def function_names(plan: Plan) -> list[str]:
    """The names of the handlers and compensators that the plan has."""
    names: list[str] = []

    def listed(name: FunctionName, function: Function) -> Function:
        names.append(name.shown)
        return function

    for node, kind in zip(plan.nodes, plan.kinds, strict=True):
        kind.with_functions(node, listed)
    return names


def expected_signals(plan: Plan) -> list[str]:
    """Those that some node can use: first the waits', then the names of what may suspend itself; each once."""
    pairs = tuple(zip(plan.nodes, plan.kinds, strict=True))
    waits = [name for node, kind in pairs for name in kind.signals(node)]
    return list(dict.fromkeys([*waits, *(name for node, kind in pairs for name in kind.suspends_as(node))]))


def waits_of(plan: Plan, node: str) -> tuple[str, ...]:
    """The signals that the node of that name is there to wait for; none for a node that the plan does not have."""
    place = plan.indexes.get(node)
    return () if place is None else plan.kinds[place].signals(plan.nodes[place])


def taken_as(plan: Plan, signal: str) -> list[DeclaredType | None]:
    """What each wait, and all that may suspend itself, declares of that signal's payload; None: nothing."""
    pairs = zip(plan.nodes, plan.kinds, strict=True)
    return [declared.type for node, kind in pairs for name, declared in kind.takes(node) if name == signal]


def difference(old: Plan, new: Plan) -> str:
    """Where two versions of a workflow first differ, seen from the old one; empty where they do not."""
    for place in range(max(len(old.nodes), len(new.nodes))):
        if place >= len(old.nodes):
            return f"node {place + 1} is new: {new.nodes[place].name}"
        was = old.nodes[place]
        if place >= len(new.nodes):
            return f"node {place + 1} is gone: {was.name}"
        now = new.nodes[place]
        if was.name != now.name:
            return f"node {place + 1} is {now.name}, not {was.name}"
        if was.kind != now.kind:
            return f"node {was.name} is a {now.kind}, not a {was.kind}"
        detail = old.kinds[place].difference(was, now)
        if detail:
            return f"node {was.name} {detail}"
    return ""


def outline(nodes: tuple[Node, ...]) -> list[dict[str, Any]]:
    """Names and kinds of the nodes in order, with entries, branches, signals and children; no functions or policies."""
    return [{"name": node.name, "kind": node.kind, **kind_of(node).outline(node)} for node in nodes]


def fingerprint(name: str, nodes: tuple[Node, ...]) -> str:
    """The digest of a workflow's outline: 24 hexadecimal digits."""
    encoded = msgspec.json.encode([name, outline(nodes)], order="sorted")
    return hashlib.sha256(encoded).hexdigest()[:24]
