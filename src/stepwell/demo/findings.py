"""Compares a package's files with its RECORD, a part at a time; independent of workflows."""

from __future__ import annotations

import csv
import hashlib
import os
import stat
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

BAD = ("altered", "missing", "unreadable")
"""What can be wrong with a recorded file, the most serious first; a package's verdict is its most serious problem."""

_ALGORITHMS = ("sha256", "sha384", "sha512")
_PIECE_BYTES = 1 << 20
_NAMES_KEPT = 5
_RECORDS_KEPT = 64
_EVIDENCE_MODULUS = 1 << 256


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a RECORD that has a hash; `size` is 0 if none was recorded."""

    path: str
    algorithm: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Findings:
    """The findings about some of a package's files. Findings can be added, in any order.

    `evidence` is the sum over the files of a hash of name and content: two computations agree on it only if they read
    the same bytes. `names` holds a few of the bad files.
    """

    files: int = 0
    bytes: int = 0
    altered: int = 0
    missing: int = 0
    unreadable: int = 0
    evidence: int = 0
    names: tuple[str, ...] = ()

    def __add__(self, other: Findings) -> Findings:
        return Findings(
            self.files + other.files,
            self.bytes + other.bytes,
            self.altered + other.altered,
            self.missing + other.missing,
            self.unreadable + other.unreadable,
            (self.evidence + other.evidence) % _EVIDENCE_MODULUS,
            tuple(sorted({*self.names, *other.names})[:_NAMES_KEPT]),
        )

    @property
    def verdict(self) -> str:
        """`ok` or the most serious problem; `unrecorded` if there was nothing to compare with."""
        if self.files == 0:
            return "unrecorded"
        return next((word for word in BAD if getattr(self, word)), "ok")

    def as_json(self) -> dict[str, Any]:
        """The findings as a handler returns it."""
        counts = {name: getattr(self, name) for name in ("files", "bytes", *BAD)}
        return {**counts, "evidence": f"{self.evidence:064x}", "names": list(self.names)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Findings:
        """The findings that a handler returned."""
        counts = {name: value[name] for name in ("files", "bytes", *BAD)}
        return cls(**counts, evidence=int(value["evidence"], 16), names=tuple(value["names"]))


def recorded_rows(metadata: str) -> tuple[Row, ...]:
    """The lines of the package's RECORD that have a hash; empty if there is no readable RECORD.

    Compiled files and the RECORD itself are listed without a hash: there is nothing to compare them with.
    """
    record = Path(metadata) / "RECORD"
    try:
        status = record.stat()
        return _read_rows(record, status.st_mtime_ns, status.st_size)
    except (OSError, ValueError, csv.Error):
        return ()


@lru_cache(maxsize=_RECORDS_KEPT)
def _read_rows(record: Path, _modified: int, _size: int) -> tuple[Row, ...]:
    """Cached until the file changes: each chunk of a large package needs the whole RECORD."""
    with record.open(encoding="utf-8", newline="") as lines:
        return tuple(row for line in csv.reader(lines) if (row := _row(line)))


def check_files(folder: str, rows: Iterable[Row]) -> Findings:
    """Hashes the files of `rows`, whose paths are relative to `folder`, and counts the differences."""
    counts = dict.fromkeys(("files", "bytes", *BAD), 0)
    evidence, names = 0, []
    for row in rows:
        found, size = _found(os.path.join(folder, row.path), row.algorithm)  # noqa: PTH118  joined as text: tens of thousands of paths
        counts["files"] += 1
        counts["bytes"] += size
        evidence += int.from_bytes(hashlib.sha256(f"{row.path}\0{found}".encode()).digest())
        if found != row.digest:
            counts[found if found in BAD else "altered"] += 1
            names.append(row.path)
    return Findings(**counts, evidence=evidence % _EVIDENCE_MODULUS, names=tuple(sorted(set(names))[:_NAMES_KEPT]))


def _row(line: list[str]) -> Row | None:
    path, hashed, size = (*line, "", "", "")[:3]
    algorithm, _, digest = hashed.partition("=")
    if not path or not digest or algorithm not in _ALGORITHMS:
        return None
    return Row(path, algorithm, digest, int(size) if size.isdecimal() else 0)


def _found(path: str, algorithm: str) -> tuple[str, int]:
    """The file's digest as RECORD writes it, or a word of BAD, and its size in bytes."""
    digest, size = hashlib.new(algorithm), 0
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116  as above, the plain call takes a third of the time
            return "unreadable", 0
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  as above
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                size += len(piece)
    except (FileNotFoundError, NotADirectoryError):
        return "missing", 0
    except (OSError, ValueError):
        return "unreadable", 0
    return urlsafe_b64encode(digest.digest()).rstrip(b"=").decode(), size
