"""Builds the wheel and the sdist, checks both, and installs the wheel as users do, each time into a fresh environment.

On each Python 3.11, 3.12 and 3.13 that is found, plain and with all extras; on the first of them also with each extra
alone. In each the package is used, and the extras that are not there are named in a line where they are needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
MODULES = {"django": "django", "fastapi": "fastapi", "flask": "flask", "sqlalchemy": "sqlalchemy"}
"""The extras with a module of their own in `stepwell.ext`, and what it imports first."""
USED = """
import asyncio, importlib, sys
import stepwell
from stepwell import Durable, durable

here, modules = set(sys.argv[1].split(",")), sys.argv[2].split(",")
flow = durable("flow").step("one", lambda ctx: ctx.input)

async def use():
    async with Durable("sqlite://", [flow]) as app, app.worker():
        run = await app.start("flow", 1)
        assert await app.result(run.run_id, timeout=30) == {"one": 1}

asyncio.run(use())
for name in modules:
    try:
        importlib.import_module(f"stepwell.ext.{name}")
        assert name in here, f"{name} is there without its extra"
    except ModuleNotFoundError as error:
        assert name not in here, error
        assert f"pip install 'stepwell[{name}]'" in str(error), error
try:
    Durable("postgresql://localhost/none")
    assert "postgres" in here
except stepwell.DefinitionError as error:
    assert "postgres" not in here, error
    assert "pip install stepwell[postgres]" in str(error), error
print(stepwell.__version__)
"""


def call(*command: str | Path, **options: str) -> str:
    """What a command prints; ends with what it said if it fails."""
    ended = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]  # only cwd is given
    if ended.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{ended.stdout}{ended.stderr}")
    return str(ended.stdout)


def built(folder: Path) -> tuple[Path, Path]:
    """The wheel, made from the sdist, and the sdist; both checked."""
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    call(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    call(Path(sys.executable).with_name("check-wheel-contents"), "--config", ROOT / "pyproject.toml", wheel)
    return wheel, sdist


def pythons() -> dict[str, str]:
    """The Pythons found, by version, also among those of pyenv."""
    found: dict[str, str] = {}
    for version in VERSIONS:
        installed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
        for candidate in (f"python{version}", *map(str, sorted(installed.glob(f"{version}.*/bin/python")))):
            path = shutil.which(candidate)
            asked = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
            said = subprocess.run([path or "false", "-c", asked], capture_output=True, text=True, check=False).stdout
            if said.strip() == version and path:
                found[version] = path
                break
    return found


def used(python: str, wheel: Path, extras: list[str]) -> str:
    """The version that an environment with these extras says, once it has run a workflow."""
    with tempfile.TemporaryDirectory() as folder:
        call(python, "-m", "venv", folder)
        own = Path(folder) / "bin" / "python"
        named = f"{wheel}[{','.join(extras)}]" if extras else str(wheel)
        call(own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", named)
        call(own, "-m", "pip", "check", "--disable-pip-version-check")
        call(own.with_name("stepwell"), "--version")
        return call(own, "-W", "error", "-c", USED, ",".join(extras), ",".join(MODULES), cwd=folder).strip()


def main() -> None:
    """Builds, checks and installs; one line for each environment."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = sorted(project["optional-dependencies"])
    with tempfile.TemporaryDirectory() as folder:
        wheel, sdist = built(Path(folder))
        print(f"built and checked: {wheel.name}, {sdist.name}")
        for at, (version, python) in enumerate(pythons().items()):
            alone = [[extra] for extra in extras] if at == 0 else []
            for chosen in ([], *alone, extras):
                said = used(python, wheel, chosen)
                if said not in wheel.name:
                    sys.exit(f"the installed version is {said}, not that of {wheel.name}")
                print(f"Python {version}: {', '.join(chosen) or 'no extras'}: ok", flush=True)


if __name__ == "__main__":
    main()
