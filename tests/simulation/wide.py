"""What the histories of the second generation have besides: sizes, crowds, other definitions, other clocks, and more.

Seeds from `FIRST` on draw some of these elements; the plans of smaller seeds stay what they were. Each element has a
name under which it can be taken out of a history that fails, and under which `reach` counts it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FIRST = 1_000_000
"""The first seed of the second generation."""
LARGE_BYTES = 4_096
LOADS_SLOWLY = 2.5
"""Seconds that a slow call may take here: more than the second after which a run lets others in."""
BATCH = 16
"""From so many runs on a commit counts as a batch of many."""


@dataclass(frozen=True, slots=True)
class Wide:
    """The elements of one history; a default is what the first generation has."""

    crowd: int = 0
    """How many roots the client starts, instead of the few."""
    concurrency: int = 3
    """The most handlers that a worker may have in flight."""
    sizes: int = 0
    """The most bytes by which values are padded."""
    slow_loads: bool = False
    """Whether a call that is slow takes longer than a run may keep its worker to itself."""
    start_many: int = 1
    """How many roots one call starts."""
    delays: float = 0.0
    """The share of starts with a delay."""
    shared_keys: int = 1
    """How many starts have the same key."""
    gives_up: bool = False
    """Whether steps have exceptions at which they give up."""
    strangers: float = 0.0
    """The share of worker processes that come with other definitions, beside those that can do the work."""
    clocks_apart: bool = False
    """Whether the hosts' clocks differ from each other and from the store's."""
    deep: int = 0
    """How many levels of children there are, instead of two."""
    second_cancels: bool = False
    """Whether a cancel comes twice at once, and once more when the run has ended."""
    deleted_rows: bool = False
    """Whether runs are deleted by hand."""
    full_disk: bool = False
    """Whether the store refuses all writes for a while."""
    busy_parents: float = 0.0
    """How likely a child's end finds the row of its parent locked."""

    @property
    def elements(self) -> list[str]:
        """The names of those that this history has."""
        default = Wide()
        return [f"wide:{one.name}" for one in fields(self) if getattr(self, one.name) != getattr(default, one.name)]

    def without(self, out: Iterable[str]) -> Wide:
        """The same, but for the elements of these names."""
        default, taken = Wide(), set(out)
        return replace(
            self, **{one.name: getattr(default, one.name) for one in fields(self) if f"wide:{one.name}" in taken}
        )


NARROW = Wide()


def wide_of(seed: int) -> Wide:
    """What the history of this seed has besides; nothing before `FIRST`."""
    if seed < FIRST:
        return NARROW
    chance = random.Random(f"wide {seed}")

    def has(share: float) -> bool:
        return chance.random() < share

    return Wide(
        crowd=chance.randint(6, 40) if has(0.3) else 0,
        concurrency=chance.choice((1, 3, 40)),
        sizes=chance.choice((2_000, 60_000)) if has(0.4) else 0,
        slow_loads=has(0.5),
        start_many=chance.randint(2, 8) if has(0.4) else 1,
        delays=0.5 if has(0.4) else 0.0,
        shared_keys=chance.randint(2, 3) if has(0.2) else 1,
        gives_up=has(0.5),
        strangers=0.5 if has(0.3) else 0.0,
        clocks_apart=has(0.5),
        deep=chance.randint(3, 6) if has(0.15) else 0,
        second_cancels=has(0.5),
        deleted_rows=has(0.15),
        full_disk=has(0.25),
        busy_parents=0.3 if has(0.4) else 0.0,
    )


def pad_of(most: int, number: int, place: str) -> str:
    """What pads the value of this place: nothing, little, or up to so many bytes."""
    if not most:
        return ""
    chance = random.Random(f"pad {number} {place}")
    return "x" * int(most * chance.random() ** 3)
