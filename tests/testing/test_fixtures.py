"""Tests of the fixtures for pytest: what they give, and what is imported before they are used."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SLEEPS = """
import asyncio
from stepwell import durable

nap = durable("nap").sleep("nap", 3600)


def test_a_nap_on_postgres(stepwell_harness, stepwell_postgres):
    async def play():
        async with stepwell_harness([nap], url=stepwell_postgres + "?schema=naps") as harness:
            return await harness.run_until_end(await harness.start(nap))

    assert asyncio.run(play()) == {"nap": None}
"""
NO_BINARIES = """
import stepwell.testing.postgres as launcher


class PostgresServer:
    def __init__(self, **options):
        raise launcher.NoPostgresError("no binaries here")


launcher.PostgresServer = PostgresServer
"""


def outcome(folder: Path) -> str:
    """The last line that pytest printed for the tests in a folder, outside of this project."""
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-p", "no:asyncio", str(folder)]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    return ran.stdout[-2000:] + ran.stderr[-2000:]


def test_pytest_imports_nothing_of_stepwell_until_a_fixture_is_used() -> None:
    look = "import sys, pytest_stepwell; print([name for name in sys.modules if name.split('.')[0] == 'stepwell'])"
    looked = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)

    assert looked.stdout == "[]\n"


def test_a_users_test_gets_a_harness_and_a_postgres_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "test_naps.py").write_text(SLEEPS, encoding="utf-8")

    assert "1 passed" in outcome(tmp_path)


def test_a_users_test_is_skipped_where_there_is_no_postgres(tmp_path: Path) -> None:
    (tmp_path / "test_naps.py").write_text(SLEEPS, encoding="utf-8")
    (tmp_path / "conftest.py").write_text(NO_BINARIES, encoding="utf-8")

    told = outcome(tmp_path)
    assert "1 skipped" in told
    assert "no binaries here" in told
