"""Starting, freezing and killing worker processes in tests, each by its own id."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell import Durable
from tests.programs.gated import HandlersLog, Line, workflows
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).resolve().parents[2]


class WorkerProcess:
    """A process that runs a program of this folder, `gated` or another, on the store in `folder`."""

    def __init__(self, folder: Path, options: dict[str, Any], program: str = "gated") -> None:
        self.log = HandlersLog(folder)
        self._complaints = folder / "worker.stderr"
        with self._complaints.open("ab") as complaints:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"tests.programs.{program}", str(folder), json.dumps(options)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stderr=complaints,
            )
        self.pid = self._process.pid

    @property
    def complaints(self) -> str:
        """What this and the other processes of the folder said on standard error."""
        return self._complaints.read_text()

    async def begun(self, step: str = "work", times: int = 1) -> list[Line]:
        """Wait until handlers of the step have begun in this process; their lines."""

        def lines() -> list[Line]:
            assert self._process.poll() is None, self._complaints.read_text()
            return [line for line in self.log.lines("begin", pid=self.pid) if line.step == step]

        await eventually(lambda: len(lines()) >= times)
        return lines()

    @property
    def ended(self) -> bool:
        """Whether the process has ended, by itself or killed."""
        return self._process.poll() is not None

    async def stop(self) -> None:
        """Ask the process to leave, and wait until it has ended by itself."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await eventually(lambda: self.ended)

    def kill(self) -> None:
        """End the process with SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def freeze(self) -> None:
        """Stop the process where it is, with SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Kill the process if it still runs, and close what leads to it."""
        self.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()


@contextlib.asynccontextmanager
async def stubborn_worker(folder: Path, **options: Any) -> AsyncIterator[WorkerProcess]:
    """A worker process whose handlers do not behave; killed in the end."""
    worker = WorkerProcess(folder, options, "stubborn")
    try:
        yield worker
    finally:
        worker.close()


@contextlib.asynccontextmanager
async def gated_worker(folder: Path, **options: Any) -> AsyncIterator[WorkerProcess]:
    """A worker process on the store in `folder`, with options for its `Durable`; killed in the end."""
    worker = WorkerProcess(folder, options)
    try:
        yield worker
    finally:
        worker.close()


def client(folder: Path, **options: Any) -> Durable:
    """An app on the store in `folder` that knows the workflows of the worker processes."""
    return Durable(f"sqlite:///{folder / 'store.db'}", workflows(folder), **options)


def let(folder: Path, pid: int | None = None) -> None:
    """Let the handlers end that wait for it, in one process or in every one."""
    (folder / ("let" if pid is None else f"let-{pid}")).touch()


def start_and_die(folder: Path, *names: str) -> list[str]:
    """Start a run of each workflow in a process that kills itself as soon as it has printed their ids."""
    command = [sys.executable, "-m", "tests.programs.start_and_die", str(folder), *names]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    return ended.stdout.split()
