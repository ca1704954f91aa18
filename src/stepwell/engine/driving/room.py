"""How many runs a worker holds: the one place that decides what it claims, loads, keeps and lets go, whatever is due.

Rule 1, calls: it holds at most twice as many runs as it may call at once, and once it was full it claims again when a
quarter of that is free: a claim for each run that leaves would cost more than the run.

Rule 2, bytes: a claim or a load brings 4 MB or one run, and runs grow by their results. At `most_held_bytes` no further
run is claimed or loaded; above `crowded_bytes` a run lets go before its next call, unless it is the only one. What is
between keeps a run that left from coming back at once, to be read again for each call.

Rule 3, turns: while others wait, a run lets go a second after its first call. It makes one call at least: if the second
counted from the claim, a claim that takes longer, as one of large inputs over a slow link does, would lead to no call
at all, and the next claim would be no faster.

Rule 4: of runs that may have crashed workers few are held at once (`suspects.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell.engine.clock import StoreClock
    from stepwell.engine.driving.suspects import Suspects
    from stepwell.runtime.tuning import Tuning

_ANY = 2**31
_MOST_A_CLAIM = 256
_STAY_MICROS = 1_000_000


class Room:
    """The runs of one worker session: how many they are, and how many bytes of values they hold."""

    def __init__(self, tuning: Tuning, concurrency: int, suspects: Suspects, on_room: Callable[[], None]) -> None:
        self.suspects = suspects
        self.runs: int = 0
        self.size: int = 0
        """The bytes of their inputs, of what was read of their journals, and of their new results."""
        self.others_wait = False
        """Whether more runs are due than the last claim had room for."""
        self._most_runs = 2 * concurrency
        self._most_bytes = tuning.most_held_bytes
        self._crowded_bytes = tuning.crowded_bytes
        self._on_room = on_room

    @property
    def to_claim(self) -> int:
        """How many runs to claim now."""
        free = self._most_runs - self.runs
        if self.others_wait and free * 4 < self._most_runs and self.runs > 0:
            return 0
        return min(free, _MOST_A_CLAIM, self.to_load)

    @property
    def to_load(self) -> int:
        """How many runs more fit if they are like those that are held; one at least where none is."""
        if not self.size:
            return _ANY
        if self.size >= self._most_bytes:
            return 0 if self.runs else 1
        return max((self._most_bytes - self.size) * self.runs // self.size, 1)

    @property
    def is_crowded(self) -> bool:
        """Whether a run has to go."""
        return self.size > self._crowded_bytes and self.runs > 1

    def take(self, size: int) -> None:
        """A run came, with values of that many bytes."""
        self.runs += 1
        self.size += size

    def grow(self, size: int) -> None:
        """A run has that many bytes more."""
        self.size += size

    def drop(self, size: int) -> None:
        """A run of that many bytes has gone."""
        self.runs -= 1
        self.size -= size
        self._on_room()

    def clear_suspect(self) -> None:
        """A run that may have crashed workers has an entry more: further ones may come."""
        self.suspects.clear()
        self._on_room()


class Stay:
    """One run's time in a worker's hands."""

    __slots__ = ("_clock", "_room", "first_call_at")

    def __init__(self, room: Room, clock: StoreClock) -> None:
        self._room = room
        self._clock = clock
        self.first_call_at: int | None = None
        """When it made its first call, by the store's clock."""

    def ends(self) -> bool:
        """Whether the run lets others in, instead of making its next call."""
        first = self.first_call_at
        if first is None:
            self.first_call_at = self._clock.now()
            return False
        if self._room.is_crowded:
            return True
        return self._room.others_wait and self._clock.now() - first > _STAY_MICROS
