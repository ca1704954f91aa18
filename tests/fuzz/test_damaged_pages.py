"""Pages with a run whose row was edited by hand: it is shown as damaged, with what can be read, and spoils nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stepwell import Durable, JournalError, durable
from tests.fuzz.edited import Edited
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from stepwell import RunSnapshot

INPUT = "WHERE ref = (SELECT ref FROM {runs} WHERE id = '{id}')"
CHANGED = "UPDATE {runs} SET {change} WHERE id = '{id}'"
DAMAGE = {
    "status = 'of 2040'": "its status is 'of 2040'",
    "created_at = 9000000000000000000": "9,000,000,000,000,000,000 microseconds since 1970",
    "created_at = -9000000000000000000": "-9,000,000,000,000,000,000 microseconds since 1970",
    "updated_at = 9000000000000000000": "microseconds since 1970",
    "finished_at = 9000000000000000000": "microseconds since 1970",
    "wake_at = 9000000000000000000": "microseconds since 1970",
    "position = 99": "node 99",
    "position = -1": "node -1",
    "lane = 999": "the outline of its workflow is missing",
}


@pytest.fixture(params=["a file", "a server"])
def edited(request: pytest.FixtureRequest, tmp_path: Path) -> Edited:
    """Each store that others can edit."""
    return Edited(tmp_path, server=request.param == "a server")


def app_of(edited: Edited) -> Durable:
    """An app with a parent and its child, each of two nodes."""
    child = durable("child").step("one", lambda ctx: 1).step("two", lambda ctx: 2)
    parent = durable("parent").child_workflow("kid", "child").step("two", lambda ctx: 2)
    return Durable(edited.url, [parent, child])


async def family(app: Durable) -> tuple[str, str, str]:
    """A parent, its child, and a parent that has nothing to do with them."""
    async with app.worker():
        started = await app.start_many("parent", ["damaged", "healthy"])
        for each in started:
            await app.result(each.run_id, timeout=PATIENCE)
    (child,) = await app.list(parent_run_id=started[0].run_id)
    return started[0].run_id, child.run_id, started[1].run_id


def only(run_id: str, page: list[RunSnapshot]) -> RunSnapshot:
    """The run on the page; the others are not damaged."""
    (found,) = [run for run in page if run.run_id == run_id]
    assert [run.damaged for run in page if run.run_id != run_id] == [None] * (len(page) - 1)
    return found


@pytest.mark.parametrize("change", DAMAGE)
async def test_a_damaged_row_is_shown_as_such_and_spoils_no_page(edited: Edited, change: str) -> None:
    async with app_of(edited) as app:
        parent, child, _ = await family(app)
        before = await app.list()
        edited.edit(CHANGED.replace("{change}", change), child)
        page = await app.list()
        assert [run.run_id for run in page] == [run.run_id for run in before]
        of_parent = await app.status(parent)
        assert of_parent.damaged is None
        assert of_parent.children is not None
        for found in (only(child, page), only(child, list(of_parent.children)), await app.status(child)):
            assert found.damaged is not None
            assert DAMAGE[change] in found.damaged
            assert (found.workflow_name, found.parent_run_id) == ("child", parent)
        if "outline" in DAMAGE[change]:
            assert (found.total_steps, found.results, found.input) == (0, {}, "damaged")
        else:
            assert found.results == {"one": 1, "two": 2}
        assert found.status == ("of 2040" if "status" in change else "completed")
        with pytest.raises(JournalError, match="journal"):
            await app.result(child, timeout=PATIENCE)


async def test_a_run_without_its_input_or_its_journal_is_shown_with_the_rest(edited: Edited) -> None:
    async with app_of(edited) as app:
        parent, child, healthy = await family(app)
        edited.edit(f"DELETE FROM {{inputs}} {INPUT}", parent)
        edited.edit(f"DELETE FROM {{journal}} {INPUT}", child)
        assert len(await app.list()) == 4
        without_input, without_journal = await app.status(parent), await app.status(child)
        assert (without_input.damaged, without_input.input) == ("its input is missing", None)
        assert (without_input.status, without_input.current_step) == ("completed", 2)
        assert "its journal node 0" in str(without_journal.damaged)
        assert (without_journal.results, without_journal.input) == ({}, "damaged")
        assert (await app.status(healthy)).damaged is None
