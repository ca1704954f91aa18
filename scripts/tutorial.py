"""Follows docs/tutorial.md word by word in an empty folder, and checks that each command prints what the page says.

`make tutorial` installs the wheel that it builds, in the fresh environment that the page makes. With `--here` the
commands that make and fill an environment are left out, and the stepwell of this environment is used.

A python block is saved under the name in backticks in the paragraph above it. The commands of a console block are typed
into one bash, in order. In what a command prints, `…` stands for any text within a line; what the shell says about jobs
is left out. The port of the page is replaced by a free one.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
PORT = "8000"
SET_UP = ("python3 -m venv", ". .venv/", "pip install")
"""How the commands begin that `--here` leaves out."""

_BLOCK = re.compile(
    r"(?:^(?P<above>(?:[^\n]+\n)+)\n)?^```(?P<info>console|python)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_FILE = re.compile(r"`([\w./]+)`")
_JOB = re.compile(r"\[\d+\][+-]?\s.*|.*\b(?:Killed|Terminated)\b.*")


class Save(NamedTuple):
    """A file that the page has the reader save."""

    name: str
    text: str


class Type(NamedTuple):
    """A command that the page has the reader type, and the lines that it prints."""

    command: str
    prints: list[str]


def steps(page: str) -> list[Save | Type]:
    """What the page has the reader do, in order."""
    found: list[Save | Type] = []
    for block in _BLOCK.finditer(page):
        if block["info"] == "python":
            (name,) = _FILE.findall(block["above"] or "")[-1:]
            found.append(Save(name, block["text"]))
        else:
            found += typed(block["text"])
    return found


def typed(console: str) -> list[Type]:
    """The commands of a console block; a line that ends with a backslash goes on."""
    found: list[Type] = []
    continues = False
    for line in console.splitlines():
        if continues:
            found[-1] = Type(f"{found[-1].command}\n{line}", [])
        elif line.startswith("$ "):
            found.append(Type(line.removeprefix("$ "), []))
        else:
            found[-1].prints.append(line)
        continues = line.endswith("\\") and not found[-1].prints
    return found


def prints_as_expected(printed: str, expected: list[str]) -> bool:
    """Whether a command printed the lines that the page tells of."""
    lines = [line.rstrip() for line in printed.splitlines() if not _JOB.fullmatch(line)]
    patterns = [".*".join(re.escape(part) for part in line.rstrip().split("…")) for line in expected]
    return len(lines) == len(patterns) and all(map(re.fullmatch, patterns, lines))


class Shell:
    """A bash that is typed into, one command after the other."""

    END = "--- the command has ended"

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.type("set -m")

    def type(self, command: str) -> str:
        """Types a command and returns what it printed."""
        keyboard, screen = self._ends()
        keyboard.write(f"{command}\necho; echo '{self.END}'\n")
        keyboard.flush()
        lines: list[str] = []
        for line in screen:
            if line.strip() == self.END:
                return "".join(lines).removesuffix("\n")
            lines.append(line)
        raise SystemExit(f"bash ended after `{command}`:\n{''.join(lines)}")

    def close(self) -> None:
        """Kills the jobs that still run, and ends the shell."""
        self.type('jobs=$(jobs -p); [ -z "$jobs" ] || kill -9 $jobs; wait')
        keyboard, screen = self._ends()
        keyboard.close()
        self._bash.wait()
        screen.close()

    def _ends(self) -> tuple[IO[str], IO[str]]:
        if self._bash.stdin is None or self._bash.stdout is None:
            raise SystemExit("bash has no pipes")
        return self._bash.stdin, self._bash.stdout


def follow(folder: Path, environment: dict[str, str], *, here: bool) -> list[str]:
    """Does what the page says in that folder; what was printed otherwise than the page says."""
    page = PAGE.read_text(encoding="utf-8").replace(PORT, str(_free_port()))
    shell, wrong, begun = Shell(folder, environment), [], time.monotonic()
    try:
        for step in steps(page):
            if isinstance(step, Save):
                place = Path(shell.type("pwd").strip())
                (place / step.name).write_text(step.text, encoding="utf-8")
                continue
            if here and step.command.startswith(SET_UP):
                continue
            printed = shell.type(step.command)
            print(f"{time.monotonic() - begun:6.1f} s  $ {step.command}", flush=True)
            if not prints_as_expected(printed, step.prints):
                expected = "\n".join(step.prints)
                wrong.append(f"$ {step.command}\nmust print:\n{expected}\ngot:\n{printed}")
                break
    finally:
        shell.close()
    return wrong


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _built_wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob("*.whl")
    return wheel


def main() -> int:
    """Follows the page; 1 if a command printed something else."""
    here = "--here" in sys.argv[1:]
    own = {name: value for name, value in os.environ.items() if not name.startswith(("STEPWELL_", "PYTEST_", "PYTHON"))}
    place = Path(tempfile.mkdtemp(prefix="stepwell-tutorial-"))
    try:
        empty = place / "home"
        empty.mkdir()
        environment = own | {"PYTHONUTF8": "1", "COLUMNS": "100"}
        if here:
            environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
        else:
            constraints = place / "constraints.txt"
            constraints.write_text(f"stepwell @ {_built_wheel(place / 'dist').as_uri()}\n", encoding="utf-8")
            environment["PIP_CONSTRAINT"] = str(constraints)
            environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
        wrong = follow(empty, environment, here=here)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print("\n\n".join(wrong) or "everything was printed as the page says")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
