"""The demo's worker processes: started, killed with SIGKILL, and stopped cleanly at the end."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from stepwell.cli.demo.handlers_log import HandlersLog
from stepwell.cli.problems import CommandError, Exit

if TYPE_CHECKING:
    from stepwell.cli.demo.script import Place

_STOPS_WITHIN_SECONDS = 30


class Member(NamedTuple):
    """A worker process: its number, counted from 1 over all that were started, and the process."""

    number: int
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """The process's id, which is in the handlers' log."""
        return self.process.pid


class Crew:
    """The worker processes there are at a time: `members`, in the order in which they were started."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._log = HandlersLog(place.log)
        self._started = 0
        self.members: list[Member] = []

    def start(self) -> None:
        """Starts a worker process."""
        with self._place.workers_log.open("ab") as printed:
            process = subprocess.Popen(
                [sys.executable, "-m", "stepwell.cli.demo.worker", str(self._place.root)],
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=printed,
                start_new_session=True,  # Ctrl-C is for the demo, which stops its workers itself
            )
        self._started += 1
        self.members.append(Member(self._started, process))

    def kill(self, member: Member) -> None:
        """Kills a worker with SIGKILL, and returns when it is dead."""
        member.process.kill()
        member.process.wait()
        self._log.killed(member.pid)
        _close(member)
        self.members.remove(member)

    def stop(self) -> None:
        """Ends all workers cleanly."""
        for member in self.members:
            _close(member)
        for member in list(self.members):
            try:
                member.process.wait(_STOPS_WITHIN_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill(member)
        self.members.clear()

    def look(self) -> None:
        """Raises CommandError if a worker has ended by itself."""
        ended = next((member for member in self.members if member.process.poll() is not None), None)
        if ended is None:
            return
        printed = self._place.workers_log.read_text(encoding="utf-8", errors="replace").split("\n")
        said = " ".join(line.strip() for line in printed if line.strip()[:1])[-300:]
        raise CommandError(
            "worker_ended",
            f"A worker process ended by itself, with status {ended.process.returncode}: {said} "
            f"(all of it: {self._place.workers_log})",
            Exit.FAILED,
        )


def _close(member: Member) -> None:
    if member.process.stdin:
        member.process.stdin.close()
