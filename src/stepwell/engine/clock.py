"""The store's clock as a claim told it: an instant that is never ahead of it, and one that is never behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepwell.runtime.protocol import Runtime

_MICROSECONDS = 1_000_000


class StoreClock:
    """Goes on from the instant that the store gave, by this process's steady clock.

    The store read its clock somewhere between the question and the answer. Rule 1: whether a timer is over is asked of
    `now`, which counts from the answer and so is late by at most the time that the claim was under way: a clock that
    counted from the question would let timers fire early. Rule 2: what a duration is added to is `latest`, which counts
    from the question: a wait that was set by `now` would be too short. A run that the store calls due is due by `now`.
    """

    __slots__ = ("_answered_at", "_monotonic", "_store_now", "lag")

    def __init__(self, runtime: Runtime, store_now: int, asked_at: float) -> None:
        self._monotonic = runtime.monotonic
        self._answered_at = runtime.monotonic()
        self._store_now = store_now
        self.lag: int = int((self._answered_at - asked_at) * _MICROSECONDS)
        """By how many microseconds `now` may be behind the store's clock."""

    def now(self) -> int:
        """The instant by the store's clock, or somewhat earlier."""
        return self._store_now + int((self._monotonic() - self._answered_at) * _MICROSECONDS)

    def latest(self) -> int:
        """The instant by the store's clock, or somewhat later."""
        return self.now() + self.lag
