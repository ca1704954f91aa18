"""Stored rows that no run has: whoever reads them is told which, and of which run."""

from __future__ import annotations

import pytest

from stepwell import JournalError
from stepwell.core.model import JournalRow
from stepwell.engine.views import entries_of, listed
from stepwell.store.protocol import Page, RunRow

OUTLINE = b'[{"name": "count", "kind": "loop"}]'


@pytest.mark.parametrize("position", [-1, 2])
def test_a_list_shows_a_run_that_stands_outside_its_workflow_as_damaged(position: int) -> None:
    run = RunRow("run-7", None, "flow", "running", position, None, None, None, 1, 1, None, OUTLINE)
    (shown,) = listed(Page([run], {}))
    assert (shown.damaged, shown.current_node) == (f"its row says node {position} of 1", None)


def test_a_journal_with_a_row_of_no_iteration_names_that_row() -> None:
    row = JournalRow(1, 1, "count", "#x", "do", 0, "step", 1, "completed", b"1", None, None, None, 1, 1, "ann")
    with pytest.raises(JournalError, match=r"run-7.*row 1 is of '#x', which is no iteration"):
        entries_of("run-7", [row])
