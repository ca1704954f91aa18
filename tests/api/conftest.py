"""Fixtures of the contract's tests: `runner` runs a test twice, in memory and on SQLite; `sqlite` only there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.api.runs import InMemory, OnSqlite

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api.runs import Runner


@pytest.fixture
def sqlite(tmp_path: Path) -> OnSqlite:
    """Runs on a SQLite file of the test's own."""
    return OnSqlite(tmp_path)


@pytest.fixture(params=["memory", "sqlite"])
def runner(request: pytest.FixtureRequest, sqlite: OnSqlite) -> Runner:
    """Both ways to run a workflow, one after the other."""
    return InMemory() if request.param == "memory" else sqlite
