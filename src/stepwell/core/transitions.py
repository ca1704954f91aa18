"""The statuses of a run and the steps between them: the one table that says which may follow which."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepwell.core.model import Status

TRANSITIONS: Mapping[Status, Mapping[Status, str]] = MappingProxyType(
    {
        "pending": MappingProxyType(
            {
                "running": "a worker claims it",
                "canceled": "cancel",
            }
        ),
        "running": MappingProxyType(
            {
                "suspended": "it waits for a signal or a child",
                "compensating": "a node failed for good",
                "completed": "the last node has its outcome",
                "failed": "a node failed and nothing is to be undone",
                "canceled": "cancel",
            }
        ),
        "suspended": MappingProxyType(
            {
                "running": "a signal, the end of its child, or its timeout",
                "compensating": "its timeout or its child failed the node",
                "completed": "what it waited for was the last node",
                "failed": "what it waited for failed and nothing is to be undone",
                "canceled": "cancel",
            }
        ),
        "compensating": MappingProxyType(
            {
                "failed": "everything was undone that could be",
                "canceled": "cancel",
            }
        ),
        "completed": MappingProxyType({}),
        "failed": MappingProxyType({}),
        "canceled": MappingProxyType({}),
    }
)


def may_follow(before: Status, after: Status) -> bool:
    """Whether a run of the first status may get the second, or keep it."""
    return before == after or after in TRANSITIONS[before]


def diagram() -> str:
    """The table as a mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> pending: start"]
    for before, followers in TRANSITIONS.items():
        lines += [f"    {before} --> {after}: {why}" for after, why in followers.items()]
        if not followers:
            lines.append(f"    {before} --> [*]")
    return "\n".join(lines) + "\n"
