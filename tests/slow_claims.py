"""A store whose claims take long, by clocks that only tests move: nobody waits; no test lives here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from tests.moving_clock import MovingClock

if TYPE_CHECKING:
    import pytest

    from stepwell import Durable
    from stepwell.store.protocol import Claimed

Moment = Literal["before", "after"]


class SteadyClock(MovingClock):
    """The store's clock and the worker's steady one, which tests move together."""

    def __init__(self) -> None:
        super().__init__()
        self._passed = 0.0
        self.real = super().monotonic

    def monotonic(self) -> float:
        """Seconds that tests have let pass, besides the real ones."""
        return self.real() + self._passed

    def go_on(self, seconds: float) -> None:
        """Lets time pass by both clocks."""
        self._passed += seconds
        super().go_on(seconds)


def slow_claims(patch: pytest.MonkeyPatch, app: Durable, clock: SteadyClock, seconds: float, when: Moment) -> None:
    """The next claim takes so long before the store looks at its clock, or all that get something do after it."""
    claim = app._store.claim
    left = [seconds]

    async def slowly(*given: Any, **named: Any) -> Claimed:
        if when == "before" and left:
            clock.go_on(left.pop())
        claimed = await claim(*given, **named)
        if when == "after" and claimed.leases:
            clock.go_on(seconds)
        return claimed

    patch.setattr(app._store, "claim", slowly)
