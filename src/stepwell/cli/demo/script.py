"""What a demo is to do, and where it keeps its files; light, so that the command's help imports nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Place:
    """Where a demo keeps its files: the store, the handlers' log, the reports."""

    root: Path

    @property
    def database(self) -> Path:
        """The SQLite file with the runs and their journals."""
        return self.root / "demo.db"

    @property
    def url(self) -> str:
        """The database as `--url` takes it."""
        return f"sqlite:///{quote(str(self.database))}"

    @property
    def log(self) -> Path:
        """The handlers' own log."""
        return self.root / "handlers.log"

    @property
    def workers_log(self) -> Path:
        """What the worker processes print."""
        return self.root / "workers.log"

    @property
    def summary(self) -> Path:
        """What the last run collected."""
        return self.root / "summary.json"

    def report(self, key: str, *, withdrawn: bool = False) -> Path:
        """The report of the run started with `key`, where it stands or where it is put when it is withdrawn."""
        return self.root / ("withdrawn" if withdrawn else "reports") / f"{key}.json"


@dataclass(frozen=True, slots=True)
class Script:
    """What a demo is to do; kept beside its store, so that it can be checked again later."""

    folders: tuple[str, ...]
    kills: int
    concurrency: int
    interactive: bool

    def write(self, place: Place) -> None:
        """Keeps the script in the demo's folder."""
        (place.root / "demo.json").write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def read(cls, place: Place) -> Script:
        """The script of an earlier demo; raises OSError or ValueError where there is none."""
        value = json.loads((place.root / "demo.json").read_text(encoding="utf-8"))
        return cls(tuple(value["folders"]), value["kills"], value["concurrency"], value["interactive"])
