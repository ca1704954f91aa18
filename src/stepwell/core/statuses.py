"""The statuses of a run: the one table that says which may follow which, and which call of the store makes the change.

`start` writes the first status, `claim` leases the run to a worker, `commit` writes what the core decided, `deliver`
brings a message from outside, `cancel` ends the run. A cancel that compensates is a request in the run's row, and
changes no status: its worker undoes the run, and `commit` cancels it. Nothing else changes a status. Rule 1: an ended
run never changes again. Rule 2: a run that compensates only fails or is canceled. Rule 3: `commit` alone writes a
status that it is given; the SQL of the other calls contains theirs, and tests compare that SQL with this table.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Status: TypeAlias = Literal["pending", "running", "suspended", "compensating", "completed", "failed", "canceled"]
Verb: TypeAlias = Literal["claim", "commit", "deliver", "cancel"]
"""The calls of a store that change a status."""
FIRST: Status = "pending"
"""The status that `start` writes."""


class Transition(NamedTuple):
    """A change to a status: why it happens, and the calls that make it."""

    after: Status
    why: str
    by: tuple[Verb, ...] = ("commit",)


_CANCEL = Transition("canceled", "cancel", ("cancel", "commit"))

TRANSITIONS: Mapping[Status, tuple[Transition, ...]] = MappingProxyType(
    {
        "pending": (
            Transition("running", "a worker claims it", ("claim",)),
            Transition("canceled", "cancel", ("cancel",)),
        ),
        "running": (
            Transition("suspended", "it waits for a signal or a child"),
            Transition("compensating", "a node failed for good, or a cancel that compensates"),
            Transition("completed", "the last node has its outcome"),
            Transition("failed", "a node failed and nothing is to be undone"),
            _CANCEL,
        ),
        "suspended": (
            Transition("running", "a signal, the end of its child, or its timeout", ("commit", "deliver")),
            Transition("compensating", "its timeout or its child failed the node, or a cancel that compensates"),
            Transition("completed", "what it waited for was the last node"),
            Transition("failed", "what it waited for failed and nothing is to be undone"),
            _CANCEL,
        ),
        "compensating": (
            Transition("failed", "everything was undone that could be"),
            _CANCEL,
        ),
        "completed": (),
        "failed": (),
        "canceled": (),
    }
)

ENDED: frozenset[str] = frozenset(status for status, following in TRANSITIONS.items() if not following)
"""The statuses that nothing follows."""
LIVE: frozenset[str] = frozenset(TRANSITIONS) - ENDED
_FOLLOWING = {before: frozenset(one.after for one in following) for before, following in TRANSITIONS.items()}


def may_follow(before: Status, after: Status) -> bool:
    """Whether a run of the first status may get the second, or keep it."""
    return before == after or after in _FOLLOWING[before]
