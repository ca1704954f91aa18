"""A measurement as JSON: the figures of every round, with the machine, the commit and all versions."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES_BY_NAME, Case
from benchmarks.child import ROOT
from benchmarks.rounds import Rounds

FOLDER = ROOT / "benchmarks" / "results"
FORMAT = 1
FLUSHES = 200


class ResultError(Exception):
    """A file is no result that this version reads; the message says why."""


@dataclass(slots=True)
class Result:
    """What one invocation measured."""

    commit: str
    taken_at: str
    size: str
    machine: dict[str, Any]
    peers: dict[str, str]
    cases: dict[str, Rounds]

    def known_cases(self) -> list[tuple[Case, Rounds]]:
        """Its cases that still exist, in their order."""
        return [(case, self.cases[name]) for name, case in CASES_BY_NAME.items() if name in self.cases]

    def written(self, path: Path) -> Path:
        """Writes it as JSON; the path."""
        value = asdict(self)
        value["format"] = FORMAT
        value["cases"] = {
            name: [
                {"contender": contender, "store": store, "rounds": figures}
                for (contender, store), figures in rounds.found.items()
            ]
            for name, rounds in self.cases.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        return path


def read(path: Path) -> Result:
    """A result that was written; raises ResultError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value.pop("format") != FORMAT:
            raise ResultError(f"{path} has another format than {FORMAT}.")
        cases = {
            name: Rounds({(one["contender"], one["store"]): one["rounds"] for one in found})
            for name, found in value.pop("cases").items()
        }
        return Result(**value, cases=cases)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultError(f"{path} is no result of these benchmarks: {error!r}.") from error


def newest() -> Path:
    """The newest result in the folder; raises ResultError if there is none."""
    found = sorted(FOLDER.glob("2*.json"))
    if not found:
        raise ResultError(f"No result in {FOLDER}; `python -m benchmarks all` writes one.")
    return found[-1]


def begun(size: str, peers: dict[str, str], server: str) -> Result:
    """A result without cases yet, of this machine and this commit."""
    return Result(commit_of(ROOT), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", size, _machine(server), peers, {})


def file_name(result: Result) -> str:
    """Where a result belongs: sorted by time."""
    return f"{result.taken_at.replace(':', '').replace('-', '')}-{result.commit.rstrip('+')}.json"


def commit_of(checkout: Path) -> str:
    """The commit that is checked out, with `+` if files were changed since."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--abbrev=10", "--dirty=+", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "no commit"


def _machine(server: str) -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gigabytes": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "postgres": server,
        "flush_milliseconds": round(_flush_milliseconds(), 3),
        "load_before": round(os.getloadavg()[0], 1),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(found, platform.machine())


def _flush_milliseconds() -> float:
    """The median of 8 kB written and flushed: what every lone commit waits for."""
    times = []
    with tempfile.NamedTemporaryFile(prefix="stepwell-flush-") as file:
        for _ in range(FLUSHES):
            file.write(b"x" * 8192)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return sorted(times)[FLUSHES // 2] * 1_000
