"""What is known of a node whose kind another version of stepwell has: its name, and that its rows mean nothing here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from stepwell.core.journal import Work
from stepwell.core.kinds.kind import Kind, text_in
from stepwell.workflow.policy import DEFAULT_POLICY, Policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepwell.core.journal import JournalRow
    from stepwell.core.state import RunState
    from stepwell.workflow.nodes import Function


@dataclass(frozen=True, slots=True)
class UnknownNode:
    """A node of a stored outline; no workflow has one."""

    name: str
    kind: str
    policy: ClassVar[Policy] = DEFAULT_POLICY
    when: ClassVar[Function | None] = None

    @property
    def names(self) -> tuple[str, ...]:
        """Its own name, as far as is known."""
        return (self.name,)


class UnknownKind(Kind[UnknownNode]):
    """Answers for nodes of unknown kinds."""

    def from_outline(self, name: str, outline: Mapping[str, Any]) -> UnknownNode:
        """The name, and the word for its kind."""
        return UnknownNode(name, text_in(outline, "kind"))

    def next_work(self, node: UnknownNode, state: RunState) -> Work:
        """Never asked to be done: no worker has the plan."""
        return Work(node.name)

    def accepts(self, node: UnknownNode, state: RunState, row: JournalRow, *, is_after_gap: bool) -> bool:
        """No row."""
        return False
