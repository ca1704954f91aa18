"""The tools of the scripts that a drive performs: the codec, contexts, and the store's clock as the claim told it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.workflow.context import Context

if TYPE_CHECKING:
    from stepwell.core.decisions import Call
    from stepwell.core.plan import Plan
    from stepwell.engine.clock import StoreClock
    from stepwell.engine.driving.run_owner import RunOwner
    from stepwell.store.records import Lease


class ScriptTools:
    """What one leased run's scripts are given."""

    def __init__(self, owner: RunOwner, lease: Lease, plan: Plan, clock: StoreClock) -> None:
        self.encode = owner.codec.encode
        self.decode = owner.codec.decode
        self._lease = lease
        self._channels = owner.channels
        self._workflow = plan.name
        self.now = clock.now
        self.latest = clock.latest

    def context(self, call: Call) -> Context:
        """A fresh context of this call."""
        return Context(self._lease.run_id, self._workflow, call, self._lease.value, self.decode, self._channels)
