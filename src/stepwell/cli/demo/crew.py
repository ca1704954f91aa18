"""The demo's worker processes, one at a time: started, killed with SIGKILL, and stopped cleanly at the end."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from stepwell.cli.demo.handlers_log import HandlersLog
from stepwell.cli.problems import CommandError, Exit

if TYPE_CHECKING:
    from stepwell.cli.demo.script import Place

_STOPS_WITHIN_SECONDS = 30


class Crew:
    """One worker process at a time; `started` counts them, `pid` is the present one's."""

    def __init__(self, place: Place, *, kills: int, concurrency: int) -> None:
        self._place = place
        self._arguments = [str(place.root), str(kills), str(concurrency)]
        self._log = HandlersLog(place.log)
        self._worker: subprocess.Popen[bytes] | None = None
        self.started = 0

    @property
    def pid(self) -> int:
        """The present worker's process."""
        return self._worker.pid if self._worker else 0

    def start(self) -> None:
        """Starts a worker process."""
        with self._place.workers_log.open("ab") as printed:
            self._worker = subprocess.Popen(
                [sys.executable, "-m", "stepwell.cli.demo.worker", *self._arguments],
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=printed,
                start_new_session=True,  # Ctrl-C is for the demo, which stops its worker itself
            )
        self.started += 1

    def kill(self) -> None:
        """Kills the worker with SIGKILL, and returns when it is dead."""
        if self._worker is None:
            return
        self._worker.kill()
        self._worker.wait()
        self._log.killed(self._worker.pid)
        self._close()

    def stop(self) -> None:
        """Ends the worker cleanly."""
        if self._worker is None:
            return
        if self._worker.stdin:
            self._worker.stdin.close()
        try:
            self._worker.wait(_STOPS_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._close()

    def look(self) -> None:
        """Raises CommandError if the worker has ended by itself."""
        if self._worker is None or self._worker.poll() is None:
            return
        printed = self._place.workers_log.read_text(encoding="utf-8", errors="replace").split("\n")
        said = " ".join(line.strip() for line in printed if line.strip()[:1])[-300:]
        raise CommandError(
            "worker_ended",
            f"The worker process ended by itself, with status {self._worker.returncode}: {said} "
            f"(all of it: {self._place.workers_log})",
            Exit.FAILED,
        )

    def _close(self) -> None:
        if self._worker and self._worker.stdin:
            self._worker.stdin.close()
        self._worker = None
