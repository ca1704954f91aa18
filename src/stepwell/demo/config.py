"""The demo's configuration and its directory; imports little, because the command's help loads it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class DemoDirectory:
    """The directory that holds a demo's files: the store, the handler log and the reports."""

    root: Path

    @property
    def database(self) -> Path:
        """The SQLite file with the runs and their journals."""
        return self.root / "demo.db"

    @property
    def url(self) -> str:
        """The URL of the database, as `--url` accepts it."""
        return f"sqlite:///{quote(str(self.database))}"

    @property
    def log(self) -> Path:
        """The log that the handlers write themselves."""
        return self.root / "handlers.log"

    @property
    def workers_log(self) -> Path:
        """The output of the worker processes."""
        return self.root / "workers.log"

    @property
    def summary(self) -> Path:
        """The totals that the run `collect` wrote."""
        return self.root / "summary.json"

    def report(self, key: str, *, withdrawn: bool = False) -> Path:
        """The file of the report of the run with this key, or the file it is moved to when it is withdrawn."""
        return self.root / ("withdrawn" if withdrawn else "reports") / f"{key}.json"


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """The settings of a demo; stored with its files, so that the demo can be checked again later.

    `url` is the store of the runs if it is not the SQLite file in the directory. `lease` is in seconds: it matters on
    PostgreSQL, where a dead worker is detected by its silence. `faults` names the faults that will be injected.
    """

    folders: tuple[str, ...]
    kills: int
    concurrency: int
    interactive: bool = False
    workers: int = 1
    url: str | None = None
    lease: int = 10
    faults: tuple[str, ...] = ()

    def store_url(self, directory: DemoDirectory) -> str:
        """The URL of the store that holds the runs."""
        return self.url or directory.url

    def write(self, directory: DemoDirectory) -> None:
        """Writes the configuration to the demo's directory."""
        (directory.root / "demo.json").write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def read(cls, directory: DemoDirectory) -> DemoConfig:
        """Reads the configuration of an earlier demo; raises OSError, ValueError or LookupError if there is none."""
        value = json.loads((directory.root / "demo.json").read_text(encoding="utf-8"))
        lists = {name: tuple(value.pop(name)) for name in ("folders", "faults")}
        return cls(**{**value, **lists})


class Fault(NamedTuple):
    """Something other than a worker that the demo crashes and restarts: its name, its announcement, and how."""

    name: str
    announcement: str
    inject: Callable[[], None]
