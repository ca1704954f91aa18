"""Which rows of its journal a run needs to go on; the rest stays in the store, however much it is.

An iteration of a loop begins from the row of the one before it: those further back are needed only to undo them. So of
a loop a claim reads the last outcome and the attempts after it, and all when the run begins to compensate.
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
