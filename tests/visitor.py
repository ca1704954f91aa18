"""A process of its own that visits a store: see `tests.programs.visitor`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from types import TracebackType

ROOT = Path(__file__).resolve().parents[1]


class Visitor:
    """Opens the store when entered, and has left it when left."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.programs.visitor", self._url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.hear() == "open"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        if self._process.returncode is not None:
            return
        try:
            rest, _ = self._process.communicate(timeout=PATIENCE)
            assert error is not None or rest.splitlines()[-1:] == ["left"], rest
        finally:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """Ends it with SIGKILL."""
        self._process.kill()
        self._process.communicate()

    def say(self, what: str) -> None:
        """Tells it to do something."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        """Its next line."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def ask(self, what: str) -> str:
        """What it answers."""
        self.say(what)
        return self.hear()


def visit(url: str) -> None:
    """Lets a process open the store, look at it, and leave."""
    with Visitor(url) as visitor:
        visitor.ask("look")
