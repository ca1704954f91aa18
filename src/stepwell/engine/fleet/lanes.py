"""Which lanes this app knows: the numbers that the store gives to its queues and workflows, asked once each."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import TYPE_CHECKING

from stepwell.core.plan import expected_signals, function_names
from stepwell.errors import JournalError, RunNotFoundError, StoreUnavailableError
from stepwell.store.outlines import encode_outline, read_outline
from stepwell.store.records import Definition, Lane, NewRun, Started
from stepwell.store.refusals import UnknownLaneError
from stepwell.store.urls import without_password

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from stepwell.core.plan import Plan
    from stepwell.core.registry import Registry
    from stepwell.store.protocol import ClientStore

_RELEASE = version("stepwell")


class Lanes:
    """Lane numbers by queue and workflow, and back."""

    def __init__(self, store: ClientStore, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._numbers: dict[Lane, int] = {}
        self._plans: dict[int, Plan] = {}
        self._queues: dict[int, str] = {}
        self._outlines: dict[int, Plan] = {}
        self._doubted: set[Lane] = set()

    def doubt(self) -> None:
        """Has every number asked for again before it is used: the tables may have been emptied or created again."""
        self._doubted = set(self._numbers)
        self._outlines.clear()

    @property
    def validator(self) -> str:
        """This release with these definitions and types: others may understand rows that this one does not."""
        known = sorted(
            (plan.name, plan.fingerprint, *function_names(plan), plan.types.encoded_schemas.decode())
            for plan in self._registry
        )
        return f"{_RELEASE} {hashlib.sha256(repr(known).encode()).hexdigest()[:12]}"

    async def of_queues(self, queues: Sequence[str]) -> list[int]:
        """The lanes of all registered workflows in these queues."""
        wanted = [(_lane(queue, plan), plan) for queue in queues for plan in self._registry]
        missing = [(lane, plan) for lane, plan in wanted if self._is_missing(lane)]
        if missing:
            definitions = [Definition(lane, encode_outline(plan)) for lane, plan in missing]
            for (lane, plan), number in zip(missing, await self._store.define(definitions), strict=True):
                self._numbers[lane] = number
                self._plans[number] = plan
                self._queues[number] = lane.queue
                self._doubted.discard(lane)
        return [self._numbers[lane] for lane, _ in wanted]

    def may_be_of(self, queues: Sequence[str], numbers: AbstractSet[int]) -> bool:
        """Whether one of these lanes may be one of the queues': a workflow whose number is not known may have any."""
        lanes = [_lane(queue, plan) for queue in queues for plan in self._registry]
        return bool(numbers) and any(self._is_missing(lane) or self._numbers[lane] in numbers for lane in lanes)

    async def of(self, queue: str, plan: Plan) -> int:
        """The lane of one workflow in one queue."""
        lane = _lane(queue, plan)
        if self._is_missing(lane):
            await self.of_queues([queue])
        return self._numbers[lane]

    async def start(self, queue: str, plan: Plan, runs: Sequence[NewRun]) -> list[Started]:
        """Starts runs of one workflow in one queue, in whatever lane it has.

        The number that is known here may be of tables that are gone: what the store does not know is defined again.
        """
        for _ in range(2):
            lane = await self.of(queue, plan)
            try:
                return await self._store.start([run._replace(lane=lane) for run in runs])
            except UnknownLaneError:
                self.doubt()
        raise StoreUnavailableError(without_password(self._store.url), "its tables are being emptied or created again")

    def plan(self, lane: int) -> Plan:
        """The plan of a lane that this app asked for."""
        return self._plans[lane]

    def known_plan(self, lane: int) -> Plan | None:
        """The plan of a lane, if this app has asked for the lane's number."""
        return self._plans.get(lane)

    async def outline(self, lane: int) -> Plan | None:
        """The stored outline of a lane's workflow, known here or not; None where it is missing or cannot be read."""
        if lane not in self._outlines:
            stored = await self._store.reader.outline(lane)
            try:
                self._outlines[lane] = read_outline("", stored or b"")
            except ValueError:
                return None
        return self._outlines[lane]

    async def expected_signals(self, run_id: str) -> tuple[str, ...]:
        """The signals that some node of the run's workflow can use; raises RunNotFoundError."""
        lane = await self._store.reader.lane(run_id)
        if lane is None:
            raise RunNotFoundError(run_id)
        outline = await self.outline(lane)
        if outline is None:
            raise JournalError(run_id, "the stored outline of its workflow cannot be read")
        return tuple(expected_signals(outline))

    async def expects(self, lane: int, signal: str) -> bool:
        """Whether a node of the lane's workflow can use that signal; True where that cannot be known now."""
        try:
            outline = await self.outline(lane)
        except StoreUnavailableError:  # the signal is delivered: that is to be answered, whatever comes now
            return True
        return outline is None or signal in expected_signals(outline)

    def _is_missing(self, lane: Lane) -> bool:
        return lane not in self._numbers or lane in self._doubted

    def child(self, parent_lane: int, workflow: str) -> int:
        """The lane of a child workflow in its parent's queue; a worker knows the children of all that it knows."""
        return self._numbers[_lane(self._queues[parent_lane], self._registry.get_plan(workflow))]


def _lane(queue: str, plan: Plan) -> Lane:
    return Lane(queue, plan.name, plan.fingerprint)
