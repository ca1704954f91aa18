"""The tools of the scripts that a drive performs: the codec, contexts, and the store's clock as the claim told it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.workflow.annotations import UNDECLARED
from stepwell.workflow.context import Context

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell.core.decisions import Call
    from stepwell.core.plan import Plan
    from stepwell.engine.clock import StoreClock
    from stepwell.engine.driving.run_owner import RunOwner
    from stepwell.store.records import Lease
    from stepwell.workflow.annotations import Declaration


class ScriptTools:
    """What one leased run's scripts are given."""

    def __init__(self, owner: RunOwner, lease: Lease, plan: Plan, clock: StoreClock) -> None:
        self._codec = owner.codec
        self._lease = lease
        self._channels = owner.channels
        self._plan = plan
        self._reading = owner.readings.of(plan)
        self.now: Callable[[], int] = clock.now
        self.latest: Callable[[], int] = clock.latest

    def encode(self, value: Any, place: str, declaration: Declaration = UNDECLARED) -> bytes:
        """The value as stored, by what is declared of it; raises PayloadError."""
        return self._codec.encode_result(value, place, declaration)

    def encode_input(self, value: Any, place: str, workflow: str) -> bytes:
        """The input of a child of that workflow, as its definition declares it; raises PayloadError."""
        return self._codec.encode(value, place, self._plan.child_types(workflow).input)

    def decode(self, data: bytes, declaration: Declaration = UNDECLARED, place: str = "") -> Any:
        """A fresh copy of a stored value, as what is declared of it; raises StoredValueError."""
        if declaration.type is None:
            return self._codec.decode(data)
        return self._reading.decode_as(declaration.type, data, self._lease.run_id, place)

    def context(self, call: Call) -> Context[Any]:
        """A fresh context of this call."""
        return Context(self._lease.run_id, self._reading, call, self._lease.value, self._channels)
