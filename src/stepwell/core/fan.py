"""The entries of a parallel in order: which may begin, which wait and for what, and which have completed.

The cost of an advance must not grow with what is behind it, so they are kept up to date and never all walked.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field


@dataclass(slots=True)
class Fan:
    """The entries of the parallel that a run is at, kept up to date row by row.

    `ready` may begin at once, `retries` at their instants, soonest first; `waiting` are suspended, and no answer to
    them is known; `results` are those that have completed.
    """

    ready: dict[str, None]
    retries: list[tuple[int, str]] = field(default_factory=list)
    waiting: dict[str, None] = field(default_factory=dict)
    results: dict[str, bytes] = field(default_factory=dict)

    def wait(self, item: str, until: int) -> None:
        """The entry's next attempt may begin at that instant."""
        insort(self.retries, (until, item))

    def take_out(self, item: str, retry_at: int | None) -> None:
        """The entry, whose next attempt was due at `retry_at`, has begun or ended."""
        self.ready.pop(item, None)
        self.waiting.pop(item, None)
        if retry_at is not None:
            at = bisect_left(self.retries, (retry_at, item))
            if self.retries[at : at + 1] == [(retry_at, item)]:
                del self.retries[at]

    def answer(self, item: str, retry_at: int | None) -> None:
        """A suspended entry may begin, at the instant of its next attempt if one has failed since it was answered."""
        del self.waiting[item]
        if retry_at is None:
            self.ready[item] = None
        else:
            self.wait(item, retry_at)
