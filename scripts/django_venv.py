"""Makes `.venv-django`: a Python that Django 6 runs on, with what the tests of its tasks need, pinned.

It takes the first Python 3.12 or newer that is found, also among those of pyenv, or has the system's package manager
install one. If there is none after that, it says so in a line and fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv-django"
STAMP = VENV / ".ready"
PINS = ROOT / "requirements" / "django.txt"
NAMES = ("python3.12", "python3.13", "python3.14", "python3", "python")
INSTALLS = (
    ("apt-get", "install", "--yes", "--quiet", "python3.12", "python3.12-venv"),
    ("dnf", "install", "--assumeyes", "--quiet", "python3.12"),
    ("apk", "add", "--quiet", "python3"),
    ("brew", "install", "--quiet", "python@3.12"),
)
FITS = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))"


def candidates() -> Iterator[str]:
    """Where a Python may be, the most likely first."""
    yield from filter(None, [os.environ.get("PYTHON")])
    yield from NAMES
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    yield from map(str, sorted(versions.glob("3.1[2-9]*/bin/python")))


def found() -> str | None:
    """The first that is new enough and can make an environment."""
    for candidate in candidates():
        path = shutil.which(candidate)
        if path and subprocess.run([path, "-c", FITS], capture_output=True, check=False).returncode == 0:
            return path
    return None


def installed() -> str | None:
    """One that the package manager has installed."""
    for command in INSTALLS:
        if shutil.which(command[0]):
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
            return found()
    return None


def main() -> None:
    """Makes the environment unless it is as the pins say."""
    if STAMP.exists() and STAMP.read_bytes() == PINS.read_bytes():
        return
    python = found() or installed()
    if python is None:
        sys.exit("Django 6 needs Python 3.12 or newer: none was found, and the package manager has installed none.")
    subprocess.run([python, "-m", "venv", "--clear", str(VENV)], check=True)
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", str(PINS)], check=True)
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "-e", str(ROOT)], check=True)
    STAMP.write_bytes(PINS.read_bytes())


if __name__ == "__main__":
    main()
