"""Fixtures of the contract's tests: `runner` runs a test in memory and on each store; `sqlite` only there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.api.runs import InMemory, OnPostgres, OnSqlite

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api.runs import Runner


@pytest.fixture
def sqlite(tmp_path: Path) -> OnSqlite:
    """Runs on a SQLite file of the test's own."""
    return OnSqlite(tmp_path)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def runner(request: pytest.FixtureRequest, sqlite: OnSqlite) -> Runner:
    """All ways to run a workflow, one after the other."""
    if request.param == "postgres":
        return OnPostgres()
    return InMemory() if request.param == "memory" else sqlite
