"""Where a claimed run stands: its state from its lease and from what was read of its past."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.core.state import Parked, RunState, doubt, look, replay, request_cancel

if TYPE_CHECKING:
    from stepwell.core.plan import Plan
    from stepwell.core.statuses import Status
    from stepwell.engine.driving.run_owner import RunOwner
    from stepwell.store.records import History, Lease


def restored(
    owner: RunOwner, lease: Lease, plan: Plan, history: History | None, status: Status, *, is_new: bool, lag: int = 0
) -> RunState:
    """The state; `is_new`: nothing was committed since the claim, so its park and its crashes still count."""
    parked = Parked(lease.parked_at, lease.wake_at) if is_new and lease.parked_at is not None else None
    state = RunState(
        lease.run_id,
        lease.ref,
        plan,
        owner.worker_id,
        lease.value,
        owner.codec,
        "compensating" if status == "compensating" else "running",
        crashes=lease.crashes if is_new else 0,
        messages=lease.messages if history is None else history.found.messages,
        max_crashes=owner.max_crashes,
        parked=parked,
        admitted=parked is not None,
        lag=lag,
    )
    if lease.cancel_requested_at is not None:
        request_cancel(state)
    if history is not None:
        replay(state, history.rows, history.last_of)
        if history.found.names:
            look(state, *history.found)
    # A commit that parks a run leaves its instant or how it is parked, and nothing in flight; who is freed otherwise
    # may have called handlers of which there is no row.
    was_parked = not lease.crashes and (lease.wake_at is not None or lease.parked_at is not None)
    if is_new and lease.token > 1 and not was_parked:
        doubt(state)
    return state
