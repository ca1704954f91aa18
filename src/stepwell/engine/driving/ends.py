"""What the end of a child run tells its parent: its results, if its parent's node can keep them, or a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.errors import Failure
from stepwell.store.records import ChildEnd

if TYPE_CHECKING:
    from stepwell.store.codec import Codec
    from stepwell.store.records import Lease


def end_of_child(lease: Lease, results: bytes | None, failure: Failure | None, codec: Codec) -> ChildEnd | None:
    """The message for the parent of this run, or None when it has none.

    The results become one value of the parent, one level deeper than they are in the child, so both limits of a value
    are looked at here. What is above them fails the parent's node, before anything is written that cannot be read.
    """
    parent_id, parent_node = lease.parent_id, lease.parent_node
    if parent_id is None or parent_node is None:
        return None
    error = None if failure is None else Failure(parent_node, "ChildFailed", failure.message, failure.traceback)
    reason = None if results is None else codec.refusal_of(results)
    if reason is not None:
        results, error = None, Failure(parent_node, "PayloadError", f"results.{parent_node}: {reason}")
    return ChildEnd(parent_id, parent_node, results, error)


def canceled_child(lease: Lease) -> ChildEnd | None:
    """The message that this run was canceled, for its parent."""
    parent_id, parent_node = lease.parent_id, lease.parent_node
    if parent_id is None or parent_node is None:
        return None
    return ChildEnd(
        parent_id, parent_node, None, Failure(parent_node, "ChildCanceled", f"run {lease.run_id} was canceled")
    )
