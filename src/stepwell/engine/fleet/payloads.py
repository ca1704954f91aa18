"""What an app checks of a payload before it is delivered, and how a refused one is put back.

The check of the wait that takes the payload is what counts (`core/refusals.py`). The one made here tells a caller of a
mistake at once, where the app knows the run's workflow: a payload that fits no wait of its name is not delivered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from stepwell.core.journal import name_of
from stepwell.core.plan import taken_as, waits_of
from stepwell.errors import DefinitionError, PayloadError, RunNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell.core.plan import Plan
    from stepwell.core.registry import Registry
    from stepwell.engine.fleet.lanes import Lanes
    from stepwell.store.codec import Codec
    from stepwell.store.reading import Reader
    from stepwell.workflow.declared import DeclaredType

_PLACE = "data"


class RefusedPayload(NamedTuple):
    """A payload that a wait refused: its signal, and the payload as stored."""

    signal: str
    value: bytes


class Payloads:
    """Checks and encodes payloads of one app."""

    def __init__(self, registry: Registry, lanes: Lanes, codec: Codec, queue: str) -> None:
        self._registry = registry
        self._lanes = lanes
        self._codec = codec
        self._queue = queue

    async def encode(self, reader: Reader, run_id: str, signal: str, data: Any) -> bytes:
        """The payload as stored; raises PayloadError if it is no JSON, or fits no wait of that name in the workflow."""
        if not any(one is not None for plan in self._registry for one in taken_as(plan, signal)):
            return self._codec.encode_given(data, _PLACE, None)
        plan = await self._plan_of(reader, run_id)
        return self._fitting(data, [] if plan is None else taken_as(plan, signal))

    async def refused(self, reader: Reader, run_id: str, seq: int) -> RefusedPayload:
        """The payload of a refused entry; raises RunNotFoundError, and DefinitionError for another entry."""
        rows = await reader.journal(run_id)
        if rows is None:
            raise RunNotFoundError(run_id)
        row = next((one for one in rows if one.seq == seq), None)
        if row is None or row.status != "refused":
            known = ", ".join(str(one.seq) for one in rows if one.status == "refused") or "none"
            raise DefinitionError(f"redeliver: entry {seq} of run {run_id} is no refused payload. Refused: {known}.")
        lane = await reader.lane(run_id)
        outline = None if lane is None else await self._lanes.outline(lane)
        waits = () if outline is None else waits_of(outline, row.node)
        return RefusedPayload(waits[0] if waits and not row.item else name_of(row), row.value or self._codec.null)

    async def _plan_of(self, reader: Reader, run_id: str) -> Plan | None:
        """The plan of the run, where its workflow is registered here in the version that the run has."""
        lane = await reader.lane(run_id)
        if lane is None:
            raise RunNotFoundError(run_id)
        await self._lanes.of_queues([self._queue])
        return self._lanes.known_plan(lane)

    def _fitting(self, data: Any, declared: Sequence[DeclaredType | None]) -> bytes:
        first: PayloadError | None = None
        for one in declared or [None]:
            try:
                return self._as(data, one)
            except PayloadError as error:
                first = first or error
        assert first is not None  # noqa: S101  there is at least one type to try
        raise first

    def _as(self, data: Any, declared: DeclaredType | None) -> bytes:
        """The payload as that type, of which it is a value or JSON."""
        try:
            return self._codec.encode_given(data, _PLACE, declared)
        except PayloadError:
            if declared is None:
                raise
            try:
                value = self._codec.encode_given(data, _PLACE, None)
            except PayloadError:
                value = b""
            if value and self._codec.misfit(declared, value, _PLACE) is None:
                return value
            raise
