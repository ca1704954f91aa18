"""The tools of the scripts that a drive performs: the codec, contexts, and the store's clock as the claim told it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.store.codec import decode, encode
from stepwell.workflow.context import Context

if TYPE_CHECKING:
    from stepwell.core.decisions import Call
    from stepwell.engine.host import Host
    from stepwell.store.protocol import Lease
    from stepwell.workflow.nodes import Plan


class Toolbox:
    """What one leased run's scripts are given; `now` and `asked_at` are the claim's two clocks."""

    def __init__(self, host: Host, lease: Lease, plan: Plan, now: int, asked_at: float) -> None:
        self._limit = host.max_value_bytes
        self._lease = lease
        self._workflow = plan.name
        self._monotonic = host.runtime.monotonic
        self._epoch = now - int(asked_at * 1_000_000)

    def now(self) -> int:
        """The instant by the store's clock, as it was at the claim; late by the claim's way there, never early."""
        return self._epoch + int(self._monotonic() * 1_000_000)

    def encode(self, value: Any, place: str) -> bytes:
        """The value as stored; raises PayloadError."""
        return encode(value, place, self._limit)

    def decode(self, data: bytes) -> Any:
        """A fresh copy of a stored value."""
        return decode(data)

    def context(self, call: Call) -> Context:
        """A fresh context of this call."""
        return Context(self._lease.run_id, self._workflow, call, self._lease.value, decode)
