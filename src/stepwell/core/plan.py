"""A workflow as it runs: its nodes with the kind of each, looked up once, and the fingerprint of their outline.

Two plans of one fingerprint can finish each other's runs: it is the digest of all that a stored position depends on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.core.kinds import kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepwell.core.kinds import Kind
    from stepwell.workflow.nodes import Node


@dataclass(frozen=True, slots=True)
class Plan:
    """A workflow that is registered: what the engine runs."""

    name: str
    nodes: tuple[Node, ...]
    kinds: tuple[Kind[Any], ...]
    fingerprint: str
    indexes: Mapping[str, int] = field(repr=False)


def plan_of(name: str, nodes: tuple[Node, ...]) -> Plan:
    """The plan, with each node's kind in its place, and each node's place by its name."""
    indexes = MappingProxyType({node.name: at for at, node in enumerate(nodes)})
    return Plan(name, nodes, tuple(map(kind_of, nodes)), fingerprint(name, nodes), indexes)


def outline(nodes: tuple[Node, ...]) -> list[dict[str, Any]]:
    """Names and kinds of the nodes in order, with entries, branches, signals and children; no functions or policies."""
    return [{"name": node.name, "kind": node.kind, **kind_of(node).outline(node)} for node in nodes]


def fingerprint(name: str, nodes: tuple[Node, ...]) -> str:
    """The digest of a workflow's outline: 24 hexadecimal digits."""
    encoded = msgspec.json.encode([name, outline(nodes)], order="sorted")
    return hashlib.sha256(encoded).hexdigest()[:24]
