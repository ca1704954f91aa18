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
        ({"failing": ["one"]}, "failing: the name of a handler must be a string, got ['one']. Known: one."),
        ({"fakes": {"two": 1}}, 'fakes: no handler "two". Known: one.'),
        ({"fakes": ["one"]}, "fakes must be a mapping by name, got ['one']."),
        ({"probe": lambda: 1}, "a probe needs a reset"),
        ({"probe": 1, "reset": lambda: None}, "probe must be a function, got 1."),
        ({"reset": {}}, "reset must be a function, got {}."),
        (
            {"signals": {"aprove": 1}},
            (
                'signals: nothing waits for "aprove". Known: approve, and the names of what may suspend (one). '
                "Correct the name, or pass the child that waits in workflows=."
            ),
        ),
        ({"signals": ["approve"]}, "signals must be a mapping by name, got ['approve']."),
        ({"signals": {1: 1}}, "signals: nothing waits for 1."),
        ({"awaits": -1}, "awaits must be an integer >= 0, got -1."),
        ({"awaits": "x"}, "awaits must be an integer >= 0, got 'x'."),
        ({"awaits": True}, "awaits must be an integer >= 0, got True."),
        ({"workflows": ["kid"]}, "workflows must be what durable(…) returns, got 'kid'."),
        ({"workflows": 5}, "workflows must be what durable(…) returns, got 5."),
    ],
)
async def test_a_mistake_is_told_in_one_line(options: dict[str, Any], told: str) -> None:
    with pytest.raises(DefinitionError, match=re.escape(told)) as caught:
        await crash_everywhere(asking(), **options)
    assert "\n" not in str(caught.value)


async def test_a_name_in_the_place_of_a_workflow_is_told() -> None:
    with pytest.raises(DefinitionError, match="workflows must be what durable"):
        await crash_everywhere(cast("Workflow", "shop"))
    with pytest.raises(DefinitionError, match="workflows must be what durable"):
        Harness(cast("Workflow", "shop"))


async def test_the_names_that_are_waited_for_are_taken() -> None:
    kid = durable("kid").wait_for_signal("asked", "go")
    parent = asking().child_workflow("kid", kid)

    assert (await crash_everywhere(parent, workflows=kid, signals={"approve": 1, "go": 2, "one": 3}, awaits=0)).ok


def test_fakes_that_are_no_mapping_are_told_by_the_harness() -> None:
    with pytest.raises(DefinitionError, match="fakes must be a mapping by name"):
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
