"""`register`: what an app knows, a name taken once, and a workflow closed by it."""

from __future__ import annotations

import pytest

from stepwell import DefinitionError, Durable, WorkflowNotRegisteredError, durable
from tests.api import running_fixtures
from tests.api.running_fixtures import one, two
from tests.waiting import PATIENCE

url = running_fixtures.url


async def test_a_registered_workflow_can_be_started(url: str) -> None:
    async with Durable(url) as app, app.worker():
        app.register(durable("sum").step("value", one))
        started = await app.start("sum")
        assert await app.result(started.run_id, timeout=PATIENCE) == {"value": 1}


async def test_a_workflow_registered_before_entering_is_known_inside(url: str) -> None:
    app = Durable(url)
    app.register(durable("sum").step("value", one))
    async with app, app.worker():
        started = await app.start("sum")
        assert await app.result(started.run_id, timeout=PATIENCE) == {"value": 1}


def test_a_second_workflow_of_a_registered_name_is_refused() -> None:
    app = Durable("sqlite://", [durable("sum").step("value", one)])
    with pytest.raises(DefinitionError, match="sum"):
        app.register(durable("sum").step("value", two))


def test_two_workflows_of_one_name_are_refused_by_the_constructor() -> None:
    with pytest.raises(DefinitionError, match="sum"):
        Durable("sqlite://", [durable("sum").step("value", one), durable("sum").step("value", two)])


async def test_the_first_workflow_stays_when_a_second_is_refused(url: str) -> None:
    async with Durable(url, [durable("sum").step("value", one)]) as app, app.worker():
        with pytest.raises(DefinitionError):
            app.register(durable("sum").step("value", two))
        started = await app.start("sum")
        assert await app.result(started.run_id, timeout=PATIENCE) == {"value": 1}


def test_a_registered_workflow_is_closed() -> None:
    total = durable("sum").step("value", one)
    Durable("sqlite://").register(total)
    with pytest.raises(DefinitionError, match="sum"):
        total.step("more", two)
    assert [node.name for node in total.nodes] == ["value"]


def test_a_workflow_given_to_the_constructor_is_closed() -> None:
    total = durable("sum").step("value", one)
    Durable("sqlite://", [total])
    with pytest.raises(DefinitionError, match="sum"):
        total.sleep("rest", 1)


async def test_one_workflow_may_be_registered_with_several_apps() -> None:
    total = durable("sum").step("value", one)
    async with Durable("sqlite://", [total]) as first, Durable("sqlite://", [total]) as second:
        for app in (first, second):
            started = await app.start(total)
            assert (await app.status(started.run_id)).workflow_name == "sum"


async def test_what_one_app_registers_another_does_not_know() -> None:
    async with Durable("sqlite://", [durable("sum").step("value", one)]), Durable("sqlite://") as other:
        with pytest.raises(WorkflowNotRegisteredError):
            await other.start("sum")


async def test_a_workflow_that_was_registered_still_runs_by_itself() -> None:
    total = durable("sum").step("value", one)
    Durable("sqlite://", [total])
    assert (await total.run()).results == {"value": 1}
