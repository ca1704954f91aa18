"""The torture in short: workers killed, stopped and frozen while signals and cancels come, and all ends as it should.

The full measures are `python -m scripts.torture --runs 300 --workers 3`, and on PostgreSQL, where backends are
terminated and the server crashes besides, `python -m scripts.torture --postgres --workers 4 --runs 2000`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SEED = 5
"""Which workflows are played; when the kills come differs from one time to the next."""
KINDS = {"step", "route", "sleep", "signal", "child", "compensate"}


def test_tortured_workers_end_every_run_as_its_input_says() -> None:
    told = tortured("--runs", "40", "--workers", "2", "--every", "0.25", "--poisons", "1")
    assert told["runs"]["root"] == 40


def test_tortured_workers_on_a_crashing_server_end_every_run_as_its_input_says() -> None:
    told = tortured("--postgres", "--runs", "40", "--workers", "4", "--poisons", "0", "--longest", "30")
    assert told["runs"]["root"] == 40
    assert told["server restarts"] == 1
    assert told["backends terminated"] > 2
    assert told["deadlocks"] == told["deadlocks logged"] == 0


def tortured(*options: str) -> dict[str, Any]:
    """What the script tells, with what must hold wherever the store is."""
    command = [sys.executable, "-m", "scripts.torture", "--seed", str(SEED), "--longest", "60", *options, "--json"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert ended.stdout, ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout)
    assert told["violations"] == []
    assert told["runs"].keys() == {"root", "middle", "leaf"}
    assert told["journal entries"].keys() == KINDS
    assert told["kills"] > 2
    assert told["recover() found"] == 0
    assert ended.returncode == 0, ended.stderr
    return told
