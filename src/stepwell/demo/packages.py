"""Finds the installed Python packages by reading the folders, without `importlib.metadata`."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
from dataclasses import asdict, dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_METADATA_SUFFIXES = (".dist-info", ".egg-info")
_ASK_FOR_FOLDERS = "import json, site; print(json.dumps(site.getsitepackages()))"
_ANSWER_TIMEOUT_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Package:
    """An installed distribution: its name, its version, the folder its file names are relative to, and its metadata."""

    name: str
    version: str
    folder: str
    metadata: str

    @property
    def title(self) -> str:
        """The package's name and version for display."""
        return " ".join(f"{self.name} {self.version}".split())

    def as_json(self) -> dict[str, Any]:
        """The package as part of a run's input."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Package:
        """The package in a run's input."""
        return cls(**{name: value[name] for name in cls.__slots__})


def interpreter_folders() -> list[Path]:
    """The package folders of this environment and of its base interpreter, without duplicates."""
    folders = site.getsitepackages()
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    if sys.prefix != sys.base_prefix:
        folders += _base_folders()
    return list(dict.fromkeys(Path(os.path.realpath(folder)) for folder in folders if Path(folder).is_dir()))


def find_packages(folders: Iterable[Path]) -> list[Package]:
    """The packages installed in these folders, sorted by name.

    As with `pip`, a folder without readable metadata that has a name (left by an interrupted removal) is skipped.
    """
    found = [
        package
        for folder in folders
        for metadata in Path(os.path.realpath(folder)).iterdir()
        if metadata.suffix.lower() in _METADATA_SUFFIXES and (package := _package(metadata))
    ]
    return sorted(found, key=lambda package: (package.name.lower(), package.version, package.metadata))


def _package(metadata: Path) -> Package | None:
    for file in (metadata / "METADATA", metadata / "PKG-INFO", metadata):
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, ValueError):
            continue
        headers = HeaderParser().parsestr(text, headersonly=True)
        if headers["Name"]:
            version = headers["Version"] or "unknown"
            return Package(str(headers["Name"]), str(version), str(metadata.parent), str(metadata))
    return None


def _base_folders() -> list[str]:
    """Asks the base interpreter itself, because its distributor may have changed the folders."""
    python = getattr(sys, "_base_executable", None) or sys.executable
    try:
        answer = subprocess.run(
            [python, "-I", "-c", _ASK_FOR_FOLDERS],
            capture_output=True,
            check=True,
            text=True,
            encoding="utf-8",
            timeout=_ANSWER_TIMEOUT_SECONDS,
        )
        return [str(folder) for folder in json.loads(answer.stdout)]
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
