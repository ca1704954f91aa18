"""How many bytes of values the runs in a worker's hands hold, and what that allows: a bound whatever is due.

A claim or a load brings 4 MB or one run, and runs grow by their results. Rule 1: at `MOST_HELD_BYTES` no further run is
claimed. Rule 2: above `CROWDED_BYTES` a run lets go before its next call, unless it is the only one. What is between
keeps a run that left from coming back at once, to be read again for each call.
"""

from __future__ import annotations

MOST_HELD_BYTES = 256 * 2**20
CROWDED_BYTES = 320 * 2**20
_ANY = 2**31


class Memory:
    """The bytes of one worker's runs: their inputs, what was read of their journals, and their new results."""

    def __init__(self) -> None:
        self.size = 0
        self._runs = 0

    @property
    def is_crowded(self) -> bool:
        """Whether a run has to go."""
        return self.size > CROWDED_BYTES and self._runs > 1

    @property
    def room(self) -> int:
        """How many runs more fit if they are like those that are held; one at least where none is."""
        if not self.size:
            return _ANY
        if self.size >= MOST_HELD_BYTES:
            return 0 if self._runs else 1
        return max((MOST_HELD_BYTES - self.size) * self._runs // self.size, 1)

    def take(self, size: int) -> None:
        """A run came with so many bytes."""
        self._runs += 1
        self.size += size

    def grow(self, size: int) -> None:
        """A run has so many bytes more."""
        self.size += size

    def drop(self, size: int) -> None:
        """A run of so many bytes has gone."""
        self._runs -= 1
        self.size -= size
