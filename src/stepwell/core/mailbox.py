"""The messages that come to a run from outside, and the names by which a node looks for them in the mailbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from stepwell.errors import Failure


class MessageName(NamedTuple):
    """What a node looks for in its run's mailbox: a signal of that name, or the end of its child."""

    kind: Literal["signal", "child"]
    name: str


class Message(NamedTuple):
    """A message that a run has not used yet: a signal's payload, or the end of a child, which is its sender."""

    n: int
    kind: Literal["signal", "child"]
    name: str
    value: bytes | None
    error: Failure | None
    sender: str | None = None
