"""The torture in short: workers killed, stopped and frozen while signals and cancels come, and all ends as it should.

The full measure is `python -m scripts.torture --runs 300 --workers 3`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SEED = 5
"""Which workflows are played; when the kills come differs from one time to the next."""


def test_tortured_workers_end_every_run_as_its_input_says() -> None:
    command = [sys.executable, "-m", "scripts.torture", "--seed", str(SEED), "--runs", "40", "--workers", "2"]
    options = ["--every", "0.25", "--poisons", "1", "--longest", "60", "--json"]
    ended = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert ended.stdout, ended.stderr
    told = json.loads(ended.stdout)
    assert told["violations"] == []
    assert told["runs"]["root"] == 40
    assert told["runs"].keys() == {"root", "middle", "leaf"}
    assert told["journal entries"].keys() == {"step", "route", "sleep", "signal", "child", "compensate"}
    assert told["kills"] > 2
    assert told["recover() gave"] == 0
    assert ended.returncode == 0, ended.stderr
