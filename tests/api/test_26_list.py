"""`list`: runs newest first, by filters, in pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stepwell import Durable, RunSnapshot, RunStatus, durable
from tests.api import running_fixtures
from tests.api.running_fixtures import decline, file_url, one, undo, until_status
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

url = running_fixtures.url


def ids(page: list[RunSnapshot]) -> list[str]:
    return [snapshot.run_id for snapshot in page]


async def test_an_empty_store_lists_nothing(url: str) -> None:
    async with Durable(url) as app:
        assert await app.list() == []


async def test_the_newest_run_comes_first(url: str) -> None:
    async with Durable(url, [durable("flow").step("value", one)]) as app:
        started = [(await app.start("flow", number)).run_id for number in range(20)]
        assert ids(await app.list()) == started[::-1]


async def test_runs_of_one_start_many_are_listed_newest_first_too(url: str) -> None:
    async with Durable(url, [durable("flow").step("value", one)]) as app:
        started = [each.run_id for each in await app.start_many("flow", list(range(20)))]
        assert ids(await app.list()) == started[::-1]


async def test_a_row_is_the_runs_status_without_its_values(url: str) -> None:
    flow = durable("flow").step("first", one, compensate=undo).step("charge", decline, max_retries=0)
    async with Durable(url, [flow]) as app, app.worker():
        started = await app.start("flow", {"a": 1}, key="k")
        snapshot = await until_status(app, started.run_id, "failed")
        (row,) = await app.list()
    assert isinstance(row, RunSnapshot)
    assert (row.input, row.results, row.children) == (None, None, None)
    for field in ("run_id", "key", "workflow_name", "status", "current_step", "current_node", "total_steps"):
        assert getattr(row, field) == getattr(snapshot, field), field
    for field in ("awaiting_signal", "wake_at", "error", "parent_run_id", "created_at", "updated_at", "finished_at"):
        assert getattr(row, field) == getattr(snapshot, field), field
    assert list(row.compensated) == list(snapshot.compensated) == ["first"]


async def test_the_limit_is_a_hundred_unless_told(url: str) -> None:
    async with Durable(url, [durable("flow").step("value", one)]) as app:
        await app.start_many("flow", list(range(120)))
        assert len(await app.list()) == 100
        assert len(await app.list(limit=7)) == 7
        assert len(await app.list(limit=1000)) == 120


async def test_the_last_run_of_a_page_leads_to_the_next_page(url: str) -> None:
    async with Durable(url, [durable("flow").step("value", one)]) as app:
        started = [each.run_id for each in await app.start_many("flow", list(range(25)))]
        seen: list[str] = []
        page = await app.list(limit=10)
        sizes = [len(page)]
        while page:
            seen += ids(page)
            page = await app.list(limit=10, before=seen[-1])
            sizes.append(len(page))
    assert sizes == [10, 10, 5, 0]
    assert seen == started[::-1]


async def test_a_run_started_between_two_pages_changes_neither(url: str) -> None:
    async with Durable(url, [durable("flow").step("value", one)]) as app:
        started = [(await app.start("flow")).run_id for _ in range(4)]
        first = ids(await app.list(limit=2))
        await app.start("flow")
        second = ids(await app.list(limit=2, before=first[-1]))
    assert first + second == started[::-1]


@pytest.mark.parametrize("wanted", [RunStatus.COMPLETED, "completed"], ids=repr)
async def test_runs_are_found_by_status(url: str, wanted: RunStatus) -> None:
    flows = [durable("good").step("value", one), durable("bad").step("value", decline, max_retries=0)]
    async with Durable(url, flows) as app, app.worker():
        good, bad = await app.start("good"), await app.start("bad")
        await until_status(app, bad.run_id, "failed")
        await app.result(good.run_id, timeout=PATIENCE)
        late = await app.start("good", delay=3600)
        assert ids(await app.list(status=wanted)) == [good.run_id]
        assert ids(await app.list(status=RunStatus.FAILED)) == [bad.run_id]
        assert ids(await app.list(status=RunStatus.PENDING)) == [late.run_id]
        assert await app.list(status=RunStatus.CANCELED) == []


async def test_runs_are_found_by_workflow(url: str) -> None:
    async with Durable(url, [durable("one").step("value", one), durable("other").step("value", one)]) as app:
        first, second = await app.start("one"), await app.start("other")
        assert ids(await app.list(workflow="one")) == [first.run_id]
        assert ids(await app.list(workflow="other")) == [second.run_id]
        assert await app.list(workflow="neither") == []


async def test_runs_are_found_by_key_in_every_workflow(url: str) -> None:
    async with Durable(url, [durable("one").step("value", one), durable("other").step("value", one)]) as app:
        first, second = await app.start("one", key="k"), await app.start("other", key="k")
        await app.start("one", key="l")
        assert ids(await app.list(key="k")) == [second.run_id, first.run_id]
        assert ids(await app.list(key="k", workflow="one")) == [first.run_id]


async def test_runs_are_found_by_their_parent(url: str) -> None:
    child = durable("child").step("value", one)
    parent = durable("parent").child_workflow("a", child).child_workflow("b", child)
    async with Durable(url, [parent, child]) as app, app.worker():
        started = await app.start("parent")
        await app.start("child")
        await app.result(started.run_id, timeout=PATIENCE)
        rows = await app.list(parent_run_id=started.run_id)
        snapshot = await app.status(started.run_id)
        assert {row.parent_run_id for row in rows} == {started.run_id}
        assert ids(rows) == ids(list(snapshot.children or ()))[::-1]
        assert len(rows) == 2
        assert await app.list(parent_run_id=rows[0].run_id) == []


async def test_filters_and_pages_go_together(url: str) -> None:
    async with Durable(url, [durable("one").step("value", one), durable("other").step("value", one)]) as app:
        wanted = []
        for _ in range(5):
            wanted.append((await app.start("one")).run_id)
            await app.start("other")
        first = await app.list(workflow="one", status=RunStatus.PENDING, limit=3)
        second = await app.list(workflow="one", status=RunStatus.PENDING, limit=3, before=first[-1].run_id)
    assert ids(first) + ids(second) == wanted[::-1]


async def test_list_needs_no_workflow_code(tmp_path: Path) -> None:
    flow = durable("flow").step("first", one).wait_for_signal("wait", "go")
    async with Durable(file_url(tmp_path), [flow]) as app, app.worker():
        started = await app.start("flow")
        await until_status(app, started.run_id, "suspended")
        async with Durable(file_url(tmp_path)) as stranger:
            (row,) = await stranger.list()
    assert (row.current_node, row.total_steps, row.awaiting_signal) == ("wait", 2, "go")
