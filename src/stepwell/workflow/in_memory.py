"""What the builder is given by the layers above it, and what a run in memory gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from datetime import timedelta

    from stepwell.workflow.declared import DeclaredType
    from stepwell.workflow.nodes import Node


@dataclass(frozen=True, slots=True)
class RunResult:
    """The return value of `Workflow.run`: the `results` by name, and the `duration`, a timedelta. Frozen."""

    results: dict[str, Any]
    duration: timedelta


class InMemory(Protocol):
    """A run in memory, and the check and encoding of a value."""

    async def run(
        self, name: str, nodes: tuple[Node, ...], input_type: DeclaredType | None, value: object
    ) -> RunResult:
        """Runs these nodes in memory."""

    def encode(self, value: object, place: str, declared: DeclaredType | None = None) -> bytes:
        """The value as stored JSON; raises PayloadError."""
