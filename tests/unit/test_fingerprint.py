"""What makes another version of a workflow, whose runs its workers do not take, and what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stepwell import Workflow, durable
from stepwell.core.plan import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell import Context


async def one(ctx: Context) -> int:
    return 1


async def two(ctx: Context) -> int:
    return 2


def of(make: Callable[[Workflow], Workflow]) -> str:
    """The fingerprint of a workflow that is made so."""
    workflow = make(durable("order"))
    return fingerprint(workflow.name, tuple(workflow.nodes))


ALIKE: dict[str, tuple[Callable[[Workflow], Workflow], Callable[[Workflow], Workflow]]] = {
    "the order of branches": (
        lambda new: new.route("way", one, {"air": one, "sea": one}),
        lambda new: new.route("way", one, {"sea": one, "air": one}),
    ),
    "functions and policies": (
        lambda new: new.step("a", one, max_retries=1),
        lambda new: new.step("a", two, max_retries=2, timeout=7),
    ),
}
OTHERS: dict[str, tuple[Callable[[Workflow], Workflow], Callable[[Workflow], Workflow]]] = {
    "its signal": (lambda new: new.wait_for_signal("a", "go"), lambda new: new.wait_for_signal("a", "stop")),
    "its child": (lambda new: new.child_workflow("a", "bill"), lambda new: new.child_workflow("a", "invoice")),
    "its kind": (lambda new: new.step("a", one), lambda new: new.sleep("a", 1)),
    "an entry": (
        lambda new: new.parallel("a", {"x": one, "y": one}),
        lambda new: new.parallel("a", {"x": one, "z": one}),
    ),
    "a branch": (
        lambda new: new.route("a", one, {"x": one, "y": one}),
        lambda new: new.route("a", one, {"x": one, "z": one}),
    ),
}


@pytest.mark.parametrize("what", ALIKE)
def test_what_no_position_depends_on_makes_no_other_version(what: str) -> None:
    """Else a deployment that changes nothing would leave all runs to workers of the old one."""
    one, other = ALIKE[what]
    assert of(one) == of(other)


@pytest.mark.parametrize("what", OTHERS)
def test_a_change_of_what_a_stored_run_rests_on_makes_another_version(what: str) -> None:
    one, other = OTHERS[what]
    assert of(one) != of(other)
