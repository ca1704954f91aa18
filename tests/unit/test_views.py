"""Stored rows that no run has: whoever reads them is told which, and of which run."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell import JournalError
from stepwell.core.journal import JournalRow
from stepwell.errors import Failure
from stepwell.reading.entries import entries_of
from stepwell.reading.snapshots import listed, open_retry
from stepwell.store.records import Page, RunRow

OUTLINE = b'[{"name": "count", "kind": "loop"}]'


@pytest.mark.parametrize("position", [-1, 2])
def test_a_run_that_stands_outside_its_workflow_is_listed_as_damaged_beside_the_others(position: int) -> None:
    sound = RunRow("run-6", None, "flow", "running", 0, None, None, None, 1, 1, None, OUTLINE)
    bad, good = listed(Page([sound._replace(run_id="run-7", position=position), sound], {}))

    assert (bad.run_id, bad.status, bad.damaged) == ("run-7", "running", f"its row says node {position} of 1")
    assert (good.run_id, good.current_node, good.damaged) == ("run-6", "count", None)


@pytest.mark.parametrize("changes", [{"created_at": 1 << 62}, {"status": "asleep"}, {"outline": b"{"}])
def test_whatever_is_wrong_with_a_row_breaks_no_page(changes: dict[str, Any]) -> None:
    run = RunRow("run-7", None, "flow", "running", 0, None, None, None, 1, 1, None, OUTLINE)
    (bad,) = listed(Page([run._replace(**changes)], {}))

    assert (bad.run_id, bad.workflow_name) == ("run-7", "flow")
    assert bad.damaged


def row(seq: int, item: str, n: int, status: Any, attempt: int = 1, *, phase: Any = "do") -> JournalRow:
    """A row of the journal of a parallel's entry."""
    error = Failure(item, "ValueError", f"{item} {attempt}") if status in {"retrying", "failed"} else None
    return JournalRow(1, seq, "both", item, phase, n, "step", attempt, status, None, None, error, 7, 1, 1, "ann")


@pytest.mark.parametrize(
    ("rows", "open_at"),
    [
        ([], None),
        ([row(1, "a", 1, "retrying")], 1),
        ([row(1, "a", 1, "retrying"), row(2, "a", 0, "completed")], None),
        ([row(1, "a", 1, "retrying"), row(2, "b", 1, "retrying"), row(3, "b", 0, "completed")], 1),
        ([row(1, "a", 1, "retrying"), row(2, "a", 2, "retrying", 2)], 2),
        ([row(1, "a", 1, "retrying"), row(2, "a", 2, "suspended", 2)], None),
        ([row(1, "a", 0, "failed"), row(2, "b", 1, "retrying", phase="undo")], 2),
    ],
)
def test_what_is_tried_again_is_the_newest_failure_without_an_outcome(
    rows: list[JournalRow], open_at: int | None
) -> None:
    found = open_retry(rows)

    assert (None if found is None else found.seq) == open_at


def test_a_journal_with_a_row_of_no_iteration_names_that_row() -> None:
    row = JournalRow(1, 1, "count", "#x", "do", 0, "step", 1, "completed", b"1", None, None, None, 1, 1, "ann")
    with pytest.raises(JournalError, match=r"run-7.*row 1 is of '#x', which is no iteration"):
        entries_of("run-7", [row])
