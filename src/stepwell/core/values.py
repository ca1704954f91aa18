"""What the core asks of the codec: the core itself neither reads nor writes an encoded value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepwell.workflow.declared import ValueType


class Values(Protocol):
    """Encoded values that the core puts in place without looking into them."""

    null: bytes
    """The value of what was skipped, and of a sleep."""

    def is_sound(self, data: bytes) -> bool:
        """Whether this can be a stored value; much cheaper than to decode it."""

    def misfit(self, declared: ValueType, data: bytes, place: str) -> str | None:
        """Why the stored value is none of this type, in a sentence; None if it is one."""

    def join(self, parts: Mapping[str, bytes]) -> bytes:
        """Encoded values by name as one encoded object."""
