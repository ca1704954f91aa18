"""Tests that imports go downwards only, that the pure layers are pure, and that each contract would notice a breach."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.architecture.sources import PACKAGE, ROOT

if TYPE_CHECKING:
    from pathlib import Path

BREACHES: list[tuple[str, dict[str, str]]] = [
    ("layers", {"errors.py": "from stepwell import workflow"}),
    ("layers", {"workflow/intruder.py": "from stepwell import core"}),
    ("layers", {"core/intruder.py": "from stepwell import store"}),
    ("layers", {"store/intruder.py": "from stepwell import engine"}),
    ("layers", {"engine/intruder.py": "from stepwell import app"}),
    ("layers", {"app.py": "from stepwell import cli"}),
    ("layers", {"store_choice.py": "from stepwell import app"}),
    ("layers", {"cli/intruder.py": "from stepwell import dashboard"}),
    ("layers", {"stranger.py": ""}),
    ("purity", {"core/kinds/intruder.py": "import asyncio"}),
    ("purity", {"workflow/intruder.py": "import time"}),
    ("purity", {"core/intruder.py": "from stepwell import errors", "errors.py": "import logging"}),
    ("stores-apart", {"store/sqlite/intruder.py": "from stepwell.store import postgres"}),
    ("stores-apart", {"store/postgres/intruder.py": "from stepwell.store import sqlite"}),
    ("engine-and-stores", {"engine/intruder.py": "from stepwell.store import sqlite"}),
    (
        "engine-and-stores",
        {
            "engine/intruder.py": "from stepwell.store import detour",
            "store/detour.py": "from stepwell.store import sqlite",
        },
    ),
    ("one-composition-root", {"engine/intruder.py": "from stepwell.store import sqlite"}),
    ("one-composition-root", {"app.py": "from stepwell.store import sqlite"}),
    ("one-composition-root", {"cli/intruder.py": "from stepwell.store import sqlite"}),
    ("one-composition-root", {"store/intruder.py": "from stepwell.store.sqlite import anything"}),
]
"""A contract, and modules that break it."""

LATECOMERS = ("app.py", "cli/__init__.py", "dashboard/__init__.py", "store/postgres/__init__.py")
"""Modules that a breach imports, made empty where the package has none."""


def lint_imports(package_parent: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run import-linter over the stepwell in `package_parent`, by the project's own contracts."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as run; run()",
            "--no-cache",
            "--config",
            str(ROOT / "pyproject.toml"),
            *options,
        ],
        cwd=package_parent,
        env=os.environ | {"PYTHONPATH": str(package_parent)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_import_keeps_the_contracts() -> None:
    checked = lint_imports(PACKAGE.parent)

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("contract", "modules"), BREACHES)
def test_a_breach_breaks_its_contract(contract: str, modules: dict[str, str], tmp_path: Path) -> None:
    package = tmp_path / "stepwell"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in LATECOMERS:
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).touch()
    for name, text in modules.items():
        (package / name).write_text(text, encoding="utf-8")

    checked = lint_imports(tmp_path, "--contract", contract)

    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert "BROKEN" in checked.stdout, checked.stdout + checked.stderr
