"""Tests that databases written by past releases are read and finished by this one, as theirs would have done."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.golden.ends import states_and_ends
from tests.golden.restoring import restored

FOLDER = Path(__file__).parent
KEPT = sorted([*FOLDER.glob("*.db"), *FOLDER.glob("*.sql")])
MOST_BYTES = 200_000


def expected(kept: Path) -> dict[str, Any]:
    """What the release that wrote it said of its runs."""
    told: dict[str, Any] = json.loads(kept.with_suffix(".json").read_text(encoding="utf-8"))
    return told


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.name)
async def test_a_database_of_a_past_release_is_read_and_finished(kept: Path, tmp_path: Path) -> None:
    found = await states_and_ends(await restored(kept, tmp_path))

    told = expected(kept)
    assert found.keys() == told.keys()
    for name, run in told.items():
        assert json.loads(json.dumps(found[name])) == run, name


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.name)
def test_a_golden_database_has_runs_in_every_state(kept: Path) -> None:
    states = [run["state"] for run in expected(kept).values()]
    ends = [line for run in expected(kept).values() for line in run["end"]["journal"]]

    assert {"pending", "running", "suspended", "compensating", "completed", "failed", "canceled"} == {
        state["status"] for state in states
    }
    assert {"fetch", "both", "way", "poll", "ask", "nap", "maybe", "go", "kid", "kid_nap", "close", None} <= {
        state["node"] for state in states
    }
    assert {"ask", "go", "perhaps"} <= {state["awaiting"] for state in states}
    assert {"step", "route", "sleep", "signal", "child", "compensate"} == {
        line.partition(": ")[2].split()[0] for line in ends
    }
    assert {"completed", "failed", "skipped", "retrying", "suspended"} == {line.split()[-2] for line in ends}


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.name)
def test_a_golden_database_is_small(kept: Path) -> None:
    assert kept.stat().st_size < MOST_BYTES


def test_this_release_has_its_golden_databases() -> None:
    name = version("stepwell")

    assert {f"{name}.db", f"{name}.sql"} <= {path.name for path in KEPT}
