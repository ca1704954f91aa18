"""What a stored position depends on, as a short digest: two plans of one fingerprint can finish each other's runs."""

from __future__ import annotations

import hashlib
from typing import Any, assert_never

import msgspec

from stepwell.workflow.nodes import ChildWorkflow, Loop, Node, Parallel, Route, Sleep, Step, WaitForSignal


def outline(nodes: tuple[Node, ...]) -> list[dict[str, Any]]:
    """Names and kinds of the nodes in order, with entries, branches, signals and children; no functions or policies."""
    return [_outline(node) for node in nodes]


def fingerprint(name: str, nodes: tuple[Node, ...]) -> str:
    """The digest of a workflow's outline: 24 hexadecimal digits."""
    encoded = msgspec.json.encode([name, outline(nodes)], order="sorted")
    return hashlib.sha256(encoded).hexdigest()[:24]


def _outline(node: Node) -> dict[str, Any]:
    known: dict[str, Any] = {"name": node.name, "kind": node.kind}
    match node:
        case Parallel():
            known["entries"] = list(node.entries)
        case Route():
            known["branches"] = sorted(node.branches)
        case WaitForSignal():
            known["signal"] = node.signal
        case ChildWorkflow():
            known["workflow"] = node.workflow
        case Step() | Loop() | Sleep():
            pass
        case _:
            assert_never(node)
    return known
