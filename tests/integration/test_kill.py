"""Workers killed with SIGKILL again and again: all runs end, and the journal agrees with the handlers' own log.

The full measure is `python scripts/kill_rounds.py --kills 50 --runs 200`; here it is played in short.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "kill_rounds.py"


def test_workers_killed_again_and_again_lose_nothing_and_journal_nothing_twice() -> None:
    command = [sys.executable, str(SCRIPT), "--kills", "6", "--runs", "40", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ended.stdout, ended.stderr
    told = json.loads(ended.stdout)
    assert told["differences"] == []
    assert (told["kills"], told["runs"]) == (6, 40)
    assert told["kills_with_handlers_in_flight"] > 0
    assert told["handler_calls_repeated"] > 0
    assert ended.returncode == 0, ended.stderr
