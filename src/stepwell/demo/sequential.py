"""The sequential computation that the results of the workflows are compared with: a plain loop.

It shares no code with the workflows, so that it does not repeat their mistakes. It finds the packages by
`importlib.metadata`, whereas the workflows read the folders themselves.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import io
import os
import stat
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def audit_sequentially(folders: Iterable[Path]) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """The expected reports by (folder, name, version); more than one for a package that is installed twice."""
    audited = defaultdict(list)
    for dist in importlib.metadata.distributions(path=[str(folder) for folder in folders]):
        try:
            headers = dist.metadata
        except ValueError:
            continue
        if "Name" not in headers:
            continue
        folder = os.path.realpath(str(dist.locate_file("")))
        version = headers["Version"] if "Version" in headers else "unknown"  # noqa: SIM401  the headers are not a dict: get() would fold them
        audited[folder, str(headers["Name"]), version].append(_report(dist))
    return dict(audited)


def _report(dist: importlib.metadata.Distribution) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    evidence, size = 0, 0
    for name, recorded in _recorded(dist):
        kind, _, expected = recorded.partition("=")
        seen, content = _hash_file(Path(str(dist.locate_file(name))), kind)
        size += content
        counts["files"] += 1
        counts[seen if seen in ("missing", "unreadable") else "same" if seen == expected else "altered"] += 1
        evidence += int(hashlib.sha256(b"\0".join((name.encode(), seen.encode()))).hexdigest(), 16)
    worst = [word for word in ("altered", "missing", "unreadable", "same") if counts[word]]
    verdict = "unrecorded" if not worst else "ok" if worst[0] == "same" else worst[0]
    wrong = {word: counts[word] for word in ("altered", "missing", "unreadable")}
    return {"verdict": verdict, "files": counts["files"], "bytes": size, **wrong, "evidence": f"{evidence:064x}"[-64:]}


def _recorded(dist: importlib.metadata.Distribution) -> list[tuple[str, str]]:
    try:
        rows = list(csv.reader(io.StringIO(dist.read_text("RECORD") or "")))
    except (ValueError, csv.Error):
        return []
    hashed = [(row[0], row[1]) for row in rows if len(row) > 1 and row[0]]
    return [
        (name, found) for name, found in hashed if found.startswith(("sha256=", "sha384=", "sha512=")) and found[7:]
    ]


def _hash_file(path: Path, kind: str) -> tuple[str, int]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return "unreadable", 0
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, kind).digest()
    except (FileNotFoundError, NotADirectoryError):
        return "missing", 0
    except (OSError, ValueError):
        return "unreadable", 0
    return base64.urlsafe_b64encode(digest).decode().rstrip("="), status.st_size
