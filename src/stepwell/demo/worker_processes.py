"""The demo's worker processes: starts them, kills them with SIGKILL and stops them cleanly at the end."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from stepwell.cli.problems import CommandError, Exit
from stepwell.demo.handler_log import HandlerLog

if TYPE_CHECKING:
    from stepwell.demo.config import DemoDirectory

_STOP_TIMEOUT_SECONDS = 30


class WorkerProcess(NamedTuple):
    """A worker process and its number, counted from 1 over all that were started."""

    number: int
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """The process id, as in the handler log."""
        return self.process.pid


class WorkerProcesses:
    """The worker processes; `running` lists those that run now, in the order in which they were started."""

    def __init__(self, directory: DemoDirectory) -> None:
        self._directory = directory
        self._log = HandlerLog(directory.log)
        self._started = 0
        self.running: list[WorkerProcess] = []

    def start(self) -> None:
        """Starts a worker process."""
        with self._directory.workers_log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "stepwell.demo.worker", str(self._directory.root)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C must reach the demo only: it stops its workers itself.
            )
        self._started += 1
        self.running.append(WorkerProcess(self._started, process))

    def kill(self, worker: WorkerProcess) -> None:
        """Kills a worker with SIGKILL and returns once it is dead."""
        worker.process.kill()
        worker.process.wait()
        self._log.log_kill(worker.pid)
        _close(worker)
        self.running.remove(worker)

    def stop(self) -> None:
        """Stops all workers cleanly."""
        for worker in self.running:
            _close(worker)
        for worker in list(self.running):
            try:
                worker.process.wait(_STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill(worker)
        self.running.clear()

    def check(self) -> None:
        """Raises CommandError if a worker process has exited by itself."""
        exited = next((worker for worker in self.running if worker.process.poll() is not None), None)
        if exited is None:
            return
        output = self._directory.workers_log.read_text(encoding="utf-8", errors="replace").split("\n")
        last_output = " ".join(line.strip() for line in output if line.strip()[:1])[-300:]
        raise CommandError(
            "worker_exited",
            f"A worker process exited with status {exited.process.returncode}: {last_output} "
            f"(full output: {self._directory.workers_log})",
            Exit.FAILED,
        )


def _close(worker: WorkerProcess) -> None:
    if worker.process.stdin:
        worker.process.stdin.close()
