"""How many suspects a worker drives at once: runs during which several workers died, one of which may be the poison.

Rule 1: a worker begins with one. For each that survives a call, which is journaled then, one more is let in beside: so
1, 2, 4, … go at once while all of them survive. A worker that dies is followed by one that begins with one again.
Rule 2: a death counts for all that were driven, so only those that crashed two workers are driven beside each other;
one that crashed more is the only suspect of its worker. So a run that was beside the poison once is never beside it
again, and stays two deaths below the usual limit of five. Rule 3: where the limit is three or less, rule 1 would reach
it: one at a time.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepwell.store.records import Lease

_log = logging.getLogger("stepwell.run")
SUSPECT_FROM = 2
"""This many workers must have died for a run to be a suspect; fewer deaths may have been caused by other runs."""


class SuspectsRoom(NamedTuple):
    """How many suspects may come, and whether one that crashed more than two workers may."""

    most: int
    worst: bool


class Suspects:
    """What one worker has learnt of its suspects."""

    def __init__(self, max_crashes: int) -> None:
        self._width = 1
        self._widens = max_crashes > SUSPECT_FROM + 1

    def clear(self) -> None:
        """One of them survived a call."""
        if self._widens:
            self._width += 1

    def room(self, held: Iterable[int]) -> SuspectsRoom:
        """How many may come beside those held, of which these are the crashes."""
        crashes = list(held)
        if any(each > SUSPECT_FROM for each in crashes):
            return SuspectsRoom(0, worst=False)
        return SuspectsRoom(max(self._width - len(crashes), 0), worst=not crashes)


def warn_of_suspects(leases: Iterable[Lease], max_crashes: int) -> None:
    """Logs which of these runs were held by workers that died, and how many more may."""
    for lease in leases:
        if lease.crashes >= SUSPECT_FROM:
            _log.warning(
                "Run %s: %d workers died while they held it, with nothing of it journaled in between; "
                "after %d more its node fails for good (CrashLimit).",
                lease.run_id,
                lease.crashes,
                max(max_crashes - lease.crashes, 0),
                extra={"event": "suspect", "run_id": lease.run_id, "crashes": lease.crashes},
            )
