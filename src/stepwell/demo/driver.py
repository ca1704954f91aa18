"""Drives a demo: starts the runs and the workers, kills workers while handlers are in flight, and waits for the end."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from stepwell import RunFailedError, RunStatus, StoreUnavailableError
from stepwell.cli.problems import CommandError, Exit
from stepwell.demo.findings import recorded_rows
from stepwell.demo.handler_log import HandlerLog, LogLine, LogReader
from stepwell.demo.worker_processes import WorkerProcesses
from stepwell.demo.workflows import SIGNAL, open_app

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell import Durable, RunSnapshot
    from stepwell.demo.config import DemoConfig, DemoDirectory, Fault
    from stepwell.demo.packages import Package
    from stepwell.demo.worker_processes import WorkerProcess

ENDED = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELED)
_LAST_NODE = "accept"
_POLL_SECONDS = 0.002
_SHOW_SECONDS = 0.1
_QUERY_SECONDS = 0.2
_COLLECT_TIMEOUT_SECONDS = 120
_STUCK_AFTER_SECONDS = 120
_PAGE = 100
_BUSY_AFTER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of the demo, as the display shows it."""

    packages: int
    audited: int
    files: int
    bytes: int
    seconds: float
    workers: tuple[tuple[int, int, int], ...]
    """For each worker: its number, its process id and how many handlers it has in flight."""
    in_flight: tuple[LogLine, ...]
    repeated: frozenset[LogLine]


class Display(Protocol):
    """What the driver needs to show progress and to ask questions."""

    def show_progress(self, progress: Progress) -> None:
        """Shows the progress; called about ten times a second."""

    def show_kill(self, worker: int, pid: int, interrupted: list[LogLine]) -> None:
        """Reports a kill and the handlers that were in flight."""

    def show_fault(self, name: str, in_flight: int) -> None:
        """Reports an injected fault and how many handlers were in flight."""

    def ask_to_accept(self, snapshot: RunSnapshot, report: dict[str, Any]) -> bool:
        """Asks whether a bad report is accepted; called only if the demo is interactive."""


class DemoDriver:
    """Drives one demo from its first run to its last."""

    def __init__(
        self,
        directory: DemoDirectory,
        config: DemoConfig,
        packages: list[Package],
        display: Display,
        faults: Sequence[Fault],
    ) -> None:
        self._directory = directory
        self._config = config
        self._display = display
        self._workers = WorkerProcesses(directory)
        self._log = LogReader(directory.log)
        weights = {package.metadata: _recorded_bytes(package) for package in packages}
        self._recorded_bytes = sum(weights.values())
        self._packages = sorted(packages, key=lambda package: weights[package.metadata], reverse=True)
        kills: list[Fault | None] = [None] * config.kills
        half = len(kills) // 2
        self._interruptions = [*kills[half:], *faults, *kills[:half]]
        self._interruption_count = len(self._interruptions)
        self._seconds = asyncio.get_running_loop().time
        self._started_at = self._seconds()

    async def run(self) -> float:
        """Runs the demo and returns the seconds it took. Raises CommandError if it cannot continue."""
        inputs = {run_key(package): self._input(package) for package in self._packages}
        async with open_app(self._directory, self._config) as app:
            await app.start_many("audit", list(inputs.values()), keys=list(inputs))
            for _ in range(self._config.workers):
                self._workers.start()
            try:
                waiting = await self._until_settled(app)
                for snapshot in sorted(waiting, key=lambda run: run.key or ""):
                    await self._ask_person(app, snapshot)
                if waiting:
                    await self._until_settled(app)
                await self._collect(app, list(inputs))
                return self._seconds() - self._started_at
            finally:
                self._workers.stop()

    def _input(self, package: Package) -> dict[str, Any]:
        return {"key": run_key(package), "package": package.as_json(), "interactive": self._config.interactive}

    async def _until_settled(self, app: Durable) -> list[RunSnapshot]:
        """Waits until every run has ended or waits for a person; returns those that wait."""
        shown_at = asked_at = 0.0
        moved_at = self._seconds()
        while True:
            if self._log.read():
                moved_at = self._seconds()
            elif self._seconds() > moved_at + _STUCK_AFTER_SECONDS:
                raise CommandError(
                    "stuck", f"No handler started or finished for {_STUCK_AFTER_SECONDS} s.", Exit.FAILED
                )
            self._workers.check()
            await self._interrupt_if_due()
            if self._seconds() >= shown_at + _SHOW_SECONDS:
                shown_at = self._seconds()
                self._display.show_progress(self._current_progress())
            if self._seconds() >= asked_at + _QUERY_SECONDS:
                left = await _runs_left(app)
                if left is not None and all(run.awaiting_signal == SIGNAL for run in left):
                    self._display.show_progress(self._current_progress())
                    return left
                asked_at = self._seconds()
            await asyncio.sleep(_POLL_SECONDS)

    async def _interrupt_if_due(self) -> None:
        """Kills a worker or injects a fault, once the share of work due before the next interruption is done."""
        if not self._interruptions:
            return
        done = self._interruption_count - len(self._interruptions)
        share = self._recorded_bytes * done // (self._interruption_count + 1)
        if self._log.hashed_totals()[1] < share:
            return
        worker = max(self._workers.running, key=lambda worker: len(self._log.open_calls(worker.pid)))
        if not self._is_busy(worker.pid):
            return
        interruption = self._interruptions[0]
        if interruption is not None:
            await self._inject(interruption)
        elif not self._kill(worker):
            return  # The worker was between two handlers: the kill does not count and is repeated.
        self._interruptions.pop(0)

    def _is_busy(self, pid: int) -> bool:
        """Whether a worker has finished a handler and has at least half of its usual number in flight."""
        busy_since = self._log.first_finish(pid)
        in_flight = self._log.open_calls(pid)
        if busy_since is None or not in_flight:
            return False
        left = (len(self._packages) - len(self._log.runs_past(_LAST_NODE))) // len(self._workers.running)
        half = min(self._config.concurrency, left) // 2
        return len(in_flight) >= max(half, 1) or in_flight[-1].at > busy_since + _BUSY_AFTER_SECONDS

    def _kill(self, worker: WorkerProcess) -> bool:
        """Kills a worker and starts another one; returns whether handlers were in flight."""
        self._workers.kill(worker)
        self._log.read()
        interrupted = self._log.open_calls(worker.pid)
        self._display.show_kill(worker.number, worker.pid, interrupted)
        self._workers.start()
        return bool(interrupted)

    async def _inject(self, fault: Fault) -> None:
        HandlerLog(self._directory.log).log_fault(fault.name)
        self._log.read()
        in_flight = sum(len(self._log.open_calls(worker.pid)) for worker in self._workers.running)
        await asyncio.to_thread(fault.inject)
        self._display.show_fault(fault.name, in_flight)

    async def _ask_person(self, app: Durable, snapshot: RunSnapshot) -> None:
        report = ((await app.status(snapshot.run_id)).results or {})["report"]
        # The person may take minutes: the question blocks a thread, so that the app's connection stays alive.
        accepted = await asyncio.to_thread(self._display.ask_to_accept, snapshot, report)
        await app.resume(snapshot.run_id, SIGNAL, {"accepted": accepted})

    async def _collect(self, app: Durable, keys: list[str]) -> None:
        collecting = await app.start("collect", {"keys": keys}, key="collect")
        try:
            await app.result(collecting.run_id, timeout=_COLLECT_TIMEOUT_SECONDS)
        except (RunFailedError, TimeoutError) as error:
            raise CommandError(
                "not_collected", f"The run that collects the reports did not complete: {error}", Exit.FAILED
            ) from error

    def _current_progress(self) -> Progress:
        calls = {worker: self._log.open_calls(worker.pid) for worker in self._workers.running}
        in_flight = tuple(line for lines in calls.values() for line in lines)
        files, size = self._log.hashed_totals()
        return Progress(
            packages=len(self._packages),
            audited=len(self._log.runs_past(_LAST_NODE)),
            files=files,
            bytes=size,
            seconds=self._seconds() - self._started_at,
            workers=tuple((worker.number, worker.pid, len(lines)) for worker, lines in calls.items()),
            in_flight=in_flight,
            repeated=frozenset(line for line in in_flight if self._log.is_repeated(line)),
        )


def _recorded_bytes(package: Package) -> int:
    """An estimate of the work. The largest packages start first, so that none is left alone at the end."""
    return sum(row.size for row in recorded_rows(package.metadata))


def run_key(package: Package) -> str:
    """The key of the package's run: name, version and a hash of its location; valid as a file name."""
    location = hashlib.sha256(package.metadata.encode()).hexdigest()[:8]
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", f"{package.name}-{package.version}")[:100] + f"-{location}"


async def _runs_left(app: Durable) -> list[RunSnapshot] | None:
    """The runs that have not ended; None while the store is unavailable."""
    try:
        return [run for run in await all_runs(app, "audit") if run.status not in ENDED]
    except StoreUnavailableError:
        return None


async def all_runs(app: Durable, workflow: str) -> list[RunSnapshot]:
    """All runs of a workflow, newest first, page by page."""
    runs: list[RunSnapshot] = []
    while True:
        page = await app.list(workflow=workflow, limit=_PAGE, before=runs[-1].run_id if runs else None)
        runs += page
        if len(page) < _PAGE:
            return runs
