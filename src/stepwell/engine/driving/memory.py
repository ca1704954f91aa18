"""How many bytes of values the runs in a worker's hands hold, and what that allows: a bound whatever is due.

A claim or a load brings 4 MB or one run, and runs grow by their results. Rule 1: at `most_held_bytes` no further run is
claimed. Rule 2: above `crowded_bytes` a run lets go before its next call, unless it is the only one. What is between
keeps a run that left from coming back at once, to be read again for each call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepwell.runtime.tuning import Tuning

_ANY = 2**31


class Memory:
    """The bytes of one worker's runs: their inputs, what was read of their journals, and their new results."""

    def __init__(self, tuning: Tuning) -> None:
        self._most = tuning.most_held_bytes
        self._crowded = tuning.crowded_bytes
        self.size = 0
        self._runs = 0

    @property
    def is_crowded(self) -> bool:
        """Whether a run has to go."""
        return self.size > self._crowded and self._runs > 1

    @property
    def room(self) -> int:
        """How many runs more fit if they are like those that are held; one at least where none is."""
        if not self.size:
            return _ANY
        if self.size >= self._most:
            return 0 if self._runs else 1
        return max((self._most - self.size) * self._runs // self.size, 1)

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
