"""Which peers are installed, in which version; `make bench-peers` installs them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.child import ROOT

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = ROOT / ".venv-peers"
PYTHON = FOLDER / "bin" / "python"
VERSIONS = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer: its module here, the packages it needs, and the npm package of its server, if it has one."""

    name: str
    title: str
    module: str
    packages: tuple[str, ...]
    server: str | None = None


PEERS = (
    Peer("dbos", "DBOS", "dbos_transact", ("dbos",)),
    Peer("restate", "Restate", "restate_server", ("restate-sdk", "granian", "aiohttp"), "restate-server"),
    Peer("absurd", "Absurd", "absurd_tasks", ("absurd-sdk", "absurdctl")),
    Peer("pgqueuer", "pgqueuer", "pgqueuer_jobs", ("pgqueuer",)),
)


def peer_versions() -> dict[str, str]:
    """The versions of each installed peer in words; one that lacks a part is not there."""
    if not PYTHON.exists():
        return {}
    packages = [package for peer in PEERS for package in peer.packages]
    command = [str(PYTHON), "-c", VERSIONS, *packages]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    versions = {}
    for peer in PEERS:
        server = FOLDER / "node_modules" / "@restatedev" / str(peer.server) / "package.json"
        if any(package not in found for package in peer.packages) or (peer.server and not server.exists()):
            continue
        words = [f"{package} {found[package]}" for package in peer.packages]
        if peer.server:
            words.insert(0, f"server {_version(server)}")
        versions[peer.name] = ", ".join(words)
    return versions


def _version(package: Path) -> str:
    return str(json.loads(package.read_text(encoding="utf-8"))["version"])
