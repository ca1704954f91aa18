"""Tests of mistakes in the use of `stepwell.testing`: each is told in one line, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import re
import warnings
from typing import TYPE_CHECKING, Any, cast

import pytest

from stepwell import DefinitionError, DurableError, PayloadError, durable
from stepwell.testing import Harness, crash_everywhere

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stepwell import Context, Workflow


async def give(ctx: Context) -> Any:
    return ctx.input


def asking() -> Workflow:
    return durable("asking").step("one", give).wait_for_signal("wait", "approve", timeout=10, default="late")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"failing": "shop"}, 'failing: no handler "shop". Known: one.'),
        ({"failing": ["one"]}, "failing: a handler is told by its name, not by ['one']. Known: one."),
        ({"fakes": {"two": 1}}, 'fakes: no handler "two". Known: one.'),
        ({"fakes": ["one"]}, "fakes: a mapping by name is needed, not ['one']."),
        ({"probe": lambda: 1}, "a probe needs a reset"),
        ({"probe": 1, "reset": lambda: None}, "probe: a function is needed, not 1."),
        ({"reset": {}}, "reset: a function is needed, not {}."),
        (
            {"signals": {"aprove": 1}},
            (
                'signals: nothing waits for "aprove". Known: approve, and a step that suspends by its name (one). '
                "Correct the name, or give the child that waits in workflows=."
            ),
        ),
        ({"signals": ["approve"]}, "signals: a mapping by name is needed, not ['approve']."),
        ({"signals": {1: 1}}, "signals: nothing waits for 1."),
        ({"awaits": -1}, "awaits: a whole number from 0 on is needed, not -1."),
        ({"awaits": "x"}, "awaits: a whole number from 0 on is needed, not 'x'."),
        ({"awaits": True}, "awaits: a whole number from 0 on is needed, not True."),
        ({"workflows": ["kid"]}, "A workflow is needed, not 'kid'. Give what durable(…) made."),
        ({"workflows": 5}, "A workflow is needed, not 5. Give what durable(…) made."),
    ],
)
async def test_a_mistake_is_told_in_one_line(options: dict[str, Any], told: str) -> None:
    with pytest.raises(DefinitionError, match=re.escape(told)) as caught:
        await crash_everywhere(asking(), **options)
    assert "\n" not in str(caught.value)


async def test_a_name_in_the_place_of_a_workflow_is_told() -> None:
    with pytest.raises(DefinitionError, match="A workflow is needed, not 'shop'"):
        await crash_everywhere(cast("Workflow", "shop"))
    with pytest.raises(DefinitionError, match="A workflow is needed, not 'shop'"):
        Harness(cast("Workflow", "shop"))


async def test_the_names_that_are_waited_for_are_taken() -> None:
    kid = durable("kid").wait_for_signal("asked", "go")
    parent = asking().child_workflow("kid", kid)

    assert (await crash_everywhere(parent, workflows=kid, signals={"approve": 1, "go": 2, "one": 3}, awaits=0)).ok


def test_fakes_that_are_no_mapping_are_told_by_the_harness() -> None:
    with pytest.raises(DefinitionError, match="fakes: a mapping by name is needed"):
        Harness([asking()], fakes=cast("dict[str, Any]", ["one"]))


async def test_an_input_that_cannot_be_stored_leaves_no_warning_behind() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(PayloadError):
            await crash_everywhere(durable("one").step("one", give), {1, 2})
        gc.collect()

    assert [str(one.message) for one in caught if "never awaited" in str(one.message)] == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize(
    "use",
    [
        lambda harness: harness.start("asking"),
        lambda harness: harness.signal("x", "approve"),
        lambda harness: harness.resume("x", "approve"),
        lambda harness: harness.cancel("x"),
        lambda harness: harness.status("x"),
        lambda harness: harness.journal("x"),
        lambda harness: harness.settle(),
        lambda harness: harness.advance(1),
        lambda harness: harness.run_until_end("x"),
        lambda harness: harness.result("x"),
    ],
)
async def test_a_harness_that_is_not_entered_says_so(use: Callable[[Harness], Awaitable[object]]) -> None:
    harness = Harness([asking()])
    told = re.escape("This Harness is not entered. Use it inside `async with Harness(…) as harness:`.")
    with pytest.raises(DurableError, match=told):
        await use(harness)
    async with harness:
        pass
    with pytest.raises(DurableError, match=told):
        await use(harness)


async def test_a_harness_that_is_not_entered_has_no_time_and_no_app() -> None:
    harness = Harness([asking()])
    for name in ("now", "app"):
        with pytest.raises(DurableError, match="This Harness is not entered"):
            getattr(harness, name)


async def test_a_harness_is_entered_once_at_a_time() -> None:
    async with Harness([asking()]) as harness:
        with pytest.raises(DurableError, match="This Harness is entered already"):
            await harness.__aenter__()
        assert await harness.start("asking")
