"""What a demo is to do, and where it keeps its files; light, so that the command's help imports nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable
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
    """What a demo is to do; kept with its files, so that it can be checked again later.

    `url` is a store elsewhere, if the runs are not to be in a file with the others. `lease` is in seconds: on a file
    the death of a worker is certain at once, elsewhere it is told by its silence. `disturbances` are the names of what
    else will happen.
    """

    folders: tuple[str, ...]
    kills: int
    concurrency: int
    interactive: bool = False
    workers: int = 1
    url: str | None = None
    lease: int = 10
    disturbances: tuple[str, ...] = ()

    def store(self, place: Place) -> str:
        """The store of the runs, as `--url` takes it."""
        return self.url or place.url

    def write(self, place: Place) -> None:
        """Keeps the script in the demo's folder."""
        (place.root / "demo.json").write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def read(cls, place: Place) -> Script:
        """The script of an earlier demo; raises OSError or ValueError where there is none."""
        value = json.loads((place.root / "demo.json").read_text(encoding="utf-8"))
        lists = {name: tuple(value.pop(name)) for name in ("folders", "disturbances")}
        return cls(**{**value, **lists})


class Disturbance(NamedTuple):
    """What is crashed and restarted in the midst of a demo, besides workers: what it is, what is said of it before."""

    name: str
    promise: str
    make: Callable[[], None]
