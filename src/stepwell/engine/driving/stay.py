"""How long a run stays with its worker while others wait for room: a second, counted from its first call.

Where the runs of a worker have grown too large together, it lets go before its next call, whoever waits.

A run that was claimed makes one call at least. If the second counted from the claim, a claim that takes longer, as one
of large inputs over a slow link does, would lead to no call at all, and the next one would be no faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepwell.engine.clock import StoreClock
    from stepwell.engine.driving.run_owner import RunOwner

_MOST_MICROS = 1_000_000


class Stay:
    """One run's time in a worker's hands."""

    __slots__ = ("_clock", "_owner", "first_call_at")

    def __init__(self, owner: RunOwner, clock: StoreClock) -> None:
        self._owner = owner
        self._clock = clock
        self.first_call_at: int | None = None
        """When it made its first call, by the store's clock."""

    def ends(self) -> bool:
        """Whether the run lets others in, instead of making its next call."""
        first = self.first_call_at
        if first is None:
            self.first_call_at = self._clock.now()
            return False
        if self._owner.memory.is_crowded:
            return True
        return self._owner.others_wait and self._clock.now() - first > _MOST_MICROS
