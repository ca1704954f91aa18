"""What SQLite does for a page of `list`, by every filter and pair of filters: its index, without a sort of more."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import combinations
from typing import TYPE_CHECKING

import pytest

from stepwell import Durable
from stepwell.store.pages import lookup_of
from stepwell.store.records import Filter
from stepwell.store.sqlite.reader import page_sql
from stepwell.store.sqlite.sql import Q

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

VALUES = {"status": "failed", "workflow": "flow", "key": "k", "parent_id": "p", "before": "z"}
INDEXES = {"key": "stepwell_runs_key", "parent_id": "stepwell_runs_parent"}
PAIRS = [(), *((name,) for name in VALUES), *combinations(VALUES, 2), tuple(VALUES)]
SEED = """
WITH RECURSIVE g (g) AS (SELECT 1 UNION ALL SELECT g + 1 FROM g WHERE g < 20000)
INSERT INTO stepwell_runs (ref, id, lane, workflow, status, position, token, seq, messages, crashes, created_at,
    updated_at)
SELECT g, printf('%012x', g), 1, 'flow', 'completed', 1, 1, 1, 0, 0, g, g FROM g
"""


def index_of(names: tuple[str, ...]) -> str:
    """The index that is meant for these filters."""
    for name, index in INDEXES.items():
        if name in names:
            return index
    return "stepwell_runs_" + ("_".join(name for name in ("workflow", "status") if name in names) or "id")


@pytest.fixture(params=["empty", "grown", "analysed"])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[sqlite3.Connection]:
    """A connection to a store without runs, with many that are alike, and with what ANALYZE says of those."""
    async with Durable(f"sqlite:///{tmp_path}/store.db"):
        pass
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        if request.param != "empty":
            connection.execute(SEED)
        if request.param == "analysed":
            connection.execute("ANALYZE")
        yield connection


async def test_every_filter_and_pair_is_answered_by_its_index_newest_first(opened: sqlite3.Connection) -> None:
    for names in PAIRS:
        wanted = Filter(None, None, None, None, 100, None)._replace(**{name: VALUES[name] for name in names})  # type: ignore[arg-type]  # each has a text
        plan = opened.execute(f"EXPLAIN QUERY PLAN {page_sql(wanted)}", wanted._asdict()).fetchall()
        runs, *others = [line[-1] for line in plan]
        assert f"USING INDEX {index_of(names)}" in runs, (names, plan)
        assert runs.startswith("SEARCH" if names else "SCAN"), (names, plan)
        for name in lookup_of(wanted).by & set(names):
            assert f"{'id' if name == 'before' else name}{'<' if name == 'before' else '='}?" in runs, (names, plan)
        assert "key" in names or not any("B-TREE" in line for line in others), (names, plan)


async def test_what_tells_of_failures_is_read_without_the_rest_of_a_journal(opened: sqlite3.Connection) -> None:
    plan = opened.execute(f"EXPLAIN QUERY PLAN {Q['failure_rows']}", {"refs": "[1, 2]"}).fetchall()
    assert "USING INDEX stepwell_journal_telling (ref=?)" in plan[0][-1], plan
