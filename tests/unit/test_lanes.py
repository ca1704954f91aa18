"""Which lanes concern a worker, as a hint names them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from stepwell import durable
from stepwell.core.registry import Registry
from stepwell.engine.fleet.lanes import Lanes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell import Workflow
    from stepwell.store.protocol import ClientStore
    from stepwell.store.records import Definition


class Numbers:
    """A store that numbers lanes from 1 on."""

    def __init__(self) -> None:
        self._next = 0

    async def define(self, definitions: Sequence[Definition]) -> list[int]:
        """The next numbers."""
        first, self._next = self._next + 1, self._next + len(definitions)
        return list(range(first, self._next + 1))


def flow(name: str) -> Workflow:
    """A workflow of one step."""

    async def step(_: Any) -> None:
        """Nothing."""

    return durable(name).step("step", step)


async def test_a_hint_concerns_the_workers_that_have_its_lane() -> None:
    lanes = Lanes(cast("ClientStore", Numbers()), Registry([flow("one"), flow("other")]))
    assert await lanes.of_queues(["durable"]) == [1, 2]
    assert lanes.may_be_of(["durable"], {2, 9})
    assert not lanes.may_be_of(["durable"], {9})
    assert not lanes.may_be_of(["durable"], frozenset())


async def test_i4_a_workflow_whose_lane_is_not_known_may_have_any_lane() -> None:
    registry = Registry([flow("one")])
    lanes = Lanes(cast("ClientStore", Numbers()), registry)
    await lanes.of_queues(["durable"])
    assert not lanes.may_be_of(["durable"], {9})
    registry.add(flow("other"))
    assert lanes.may_be_of(["durable"], {9})
    assert not lanes.may_be_of(["durable"], frozenset()), "nothing became due"
