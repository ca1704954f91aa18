"""Which rows of its journal a run needs to go on; the others are not loaded.

An iteration of a loop begins from the row of the iteration before it. Older rows are needed only to undo them. So a
claim reads the last outcome of a loop and the attempts after it, and all rows once the run compensates: the cost of a
claim does not grow with the number of iterations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from stepwell.core.plan import Plan


class Needed(NamedTuple):
    """The nodes whose rows are all needed, and those of which the rows from the last outcome on are."""

    whole: tuple[str, ...]
    last: tuple[str, ...]


def needed(plan: Plan, *, compensating: bool) -> Needed | None:
    """What a run of this plan needs; None: its whole journal."""
    last = [
        node.name
        for node, kind in zip(plan.nodes, plan.kinds, strict=True)
        if kind.needs_only_last(node, compensating=compensating)
    ]
    if not last:
        return None
    return Needed(tuple(node.name for node in plan.nodes if node.name not in last), tuple(last))
