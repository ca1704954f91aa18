"""Tests of the wheel and the sdist as they are built, and of what is said where an extra is missing."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

import stepwell
from scripts.package import MODULES, built
from tests.architecture.sources import PACKAGE, ROOT

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
GUARDED = """
import importlib, sys
for pair in sys.argv[1:]:
    name, _, package = pair.partition("=")
    sys.modules[package] = None
    try:
        importlib.import_module(f"stepwell.ext.{name}")
    except ModuleNotFoundError as error:
        print(error)
"""


@pytest.mark.slow
def test_wheel_and_sdist_pass_their_checks_and_have_what_belongs_into_them(tmp_path: Path) -> None:
    wheel, sdist = built(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = [path for path in PACKAGE.parent.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert names == {path.relative_to(PACKAGE.parent).as_posix() for path in files}
    with tarfile.open(sdist) as archive:
        tops = {name.split("/")[1] for name in archive.getnames()}
    assert {"src", "tests", "docs", "examples", "LICENSE", "README.md", "pyproject.toml"} <= tops
    assert not [name for name in tops if name.startswith(".venv")]


def test_the_version_is_that_of_the_project() -> None:
    assert stepwell.__version__ == version("stepwell") == PROJECT["version"]


def test_a_module_without_its_extra_names_it_in_a_line() -> None:
    pairs = [f"{name}={package}" for name, package in MODULES.items()]
    told = subprocess.run([sys.executable, "-c", GUARDED, *pairs], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == [
        f"stepwell.ext.{name} needs {package}: pip install 'stepwell[{name}]'." for name, package in MODULES.items()
    ]


def test_each_module_for_a_framework_has_its_extra() -> None:
    assert MODULES.keys() <= PROJECT["optional-dependencies"].keys()
