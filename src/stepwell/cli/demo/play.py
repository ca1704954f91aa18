"""The demo's course: starts the runs, has workers killed in the middle of them, and waits for the last to end."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from stepwell import RunFailedError, RunStatus, StoreUnavailableError
from stepwell.cli.demo.audit import SIGNAL, open_app
from stepwell.cli.demo.crew import Crew
from stepwell.cli.demo.handlers_log import HandlersLog, Line, LogReader
from stepwell.cli.demo.tally import recorded_rows
from stepwell.cli.problems import CommandError, Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepwell import Durable, RunSnapshot
    from stepwell.cli.demo.crew import Member
    from stepwell.cli.demo.packages import Package
    from stepwell.cli.demo.script import Disturbance, Place, Script

ENDED = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELED)
_LAST_NODE = "stand"
_LOOK_SECONDS = 0.002
_SHOW_SECONDS = 0.1
_ASK_STORE_SECONDS = 0.2
_COLLECTED_WITHIN_SECONDS = 120
_MOVES_WITHIN_SECONDS = 120
_PAGE = 100
_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Moment:
    """How far the demo is: what the screen shows."""

    packages: int
    audited: int
    files: int
    bytes: int
    seconds: float
    workers: tuple[tuple[int, int, int], ...]
    """Of each worker: its number, its process, how many handlers it has in flight."""
    in_flight: tuple[Line, ...]
    again: frozenset[Line]


class Audience(Protocol):
    """Who is told how the demo goes."""

    def show(self, moment: Moment) -> None:
        """Told about ten times a second."""

    def killed(self, worker: int, pid: int, cut_off: list[Line]) -> None:
        """Told at each kill, with the handlers that were in flight."""

    def disturbed(self, name: str, in_flight: int) -> None:
        """Told of each disturbance, with how many handlers were in flight."""

    def accepts(self, snapshot: RunSnapshot, report: dict[str, Any]) -> bool:
        """Asked, if the demo is interactive, whether a bad report is accepted."""


class Play:
    """One demo, from its first run to its last."""

    def __init__(
        self,
        place: Place,
        script: Script,
        packages: list[Package],
        audience: Audience,
        disturbances: Sequence[Disturbance],
    ) -> None:
        self._place = place
        self._script = script
        self._audience = audience
        self._crew = Crew(place)
        self._log = LogReader(place.log)
        weights = {package.metadata: _recorded_bytes(package) for package in packages}
        self._recorded_bytes = sum(weights.values())
        self._packages = sorted(packages, key=lambda package: weights[package.metadata], reverse=True)
        kills: list[Disturbance | None] = [None] * script.kills
        half = len(kills) // 2
        self._strikes = [*kills[half:], *disturbances, *kills[:half]]
        self._most_strikes = len(self._strikes)
        self._seconds = asyncio.get_running_loop().time
        self._began = self._seconds()

    async def run(self) -> float:
        """Plays it; the seconds it took. Raises CommandError where it cannot go on."""
        inputs = {run_key(package): self._input(package) for package in self._packages}
        async with open_app(self._place, self._script) as app:
            await app.start_many("audit", list(inputs.values()), keys=list(inputs))
            for _ in range(self._script.workers):
                self._crew.start()
            try:
                waiting = await self._until_settled(app)
                for snapshot in sorted(waiting, key=lambda run: run.key or ""):
                    await self._ask(app, snapshot)
                if waiting:
                    await self._until_settled(app)
                await self._collect(app, list(inputs))
                return self._seconds() - self._began
            finally:
                self._crew.stop()

    def _input(self, package: Package) -> dict[str, Any]:
        return {"key": run_key(package), "package": package.as_json(), "interactive": self._script.interactive}

    async def _until_settled(self, app: Durable) -> list[RunSnapshot]:
        """Waits until no run moves any more; the runs that wait for a person."""
        shown_at = asked_at = 0.0
        moved_at = self._seconds()
        while True:
            if self._log.read():
                moved_at = self._seconds()
            elif self._seconds() > moved_at + _MOVES_WITHIN_SECONDS:
                raise CommandError("stuck", f"No handler began or ended for {_MOVES_WITHIN_SECONDS} s.", Exit.FAILED)
            self._crew.look()
            await self._strike_if_due()
            if self._seconds() >= shown_at + _SHOW_SECONDS:
                shown_at = self._seconds()
                self._audience.show(self._moment())
            if self._seconds() >= asked_at + _ASK_STORE_SECONDS:
                left = await _runs_left(app)
                if left is not None and all(run.awaiting_signal == SIGNAL for run in left):
                    self._audience.show(self._moment())
                    return left
                asked_at = self._seconds()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _strike_if_due(self) -> None:
        """Kills a worker, or disturbs it all, when as much of the work is done as is fair for the next of them."""
        if not self._strikes:
            return
        share = self._recorded_bytes * (self._most_strikes - len(self._strikes)) // (self._most_strikes + 1)
        if self._log.hashed()[1] < share:
            return
        member = max(self._crew.members, key=lambda member: len(self._log.open_calls(member.pid)))
        if not self._is_busy(member.pid):
            return
        strike = self._strikes[0]
        if strike is not None:
            await self._disturb(strike)
        elif not self._kill(member):
            return  # between two handlers it does not count, and is made again
        self._strikes.pop(0)

    def _is_busy(self, pid: int) -> bool:
        """Whether a worker has got something done and has handlers in flight, rather many."""
        busy_since = self._log.first_end(pid)
        in_flight = self._log.open_calls(pid)
        if busy_since is None or not in_flight:
            return False
        left = (len(self._packages) - len(self._log.ended_runs(_LAST_NODE))) // len(self._crew.members)
        half = min(self._script.concurrency, left) // 2
        return len(in_flight) >= max(half, 1) or in_flight[-1].at > busy_since + _PATIENCE_SECONDS

    def _kill(self, member: Member) -> bool:
        """Kills a worker and starts another in its place; whether it had handlers in flight."""
        self._crew.kill(member)
        self._log.read()
        cut_off = self._log.open_calls(member.pid)
        self._audience.killed(member.number, member.pid, cut_off)
        self._crew.start()
        return bool(cut_off)

    async def _disturb(self, disturbance: Disturbance) -> None:
        HandlersLog(self._place.log).disturbed(disturbance.name)
        self._log.read()
        in_flight = sum(len(self._log.open_calls(member.pid)) for member in self._crew.members)
        await asyncio.to_thread(disturbance.make)
        self._audience.disturbed(disturbance.name, in_flight)

    async def _ask(self, app: Durable, snapshot: RunSnapshot) -> None:
        report = ((await app.status(snapshot.run_id)).results or {})["report"]
        accepted = await _in_thread(lambda: self._audience.accepts(snapshot, report))
        await app.resume(snapshot.run_id, SIGNAL, {"accepted": accepted})

    async def _collect(self, app: Durable, keys: list[str]) -> None:
        collecting = await app.start("collect", {"keys": keys}, key="collect")
        try:
            await app.result(collecting.run_id, timeout=_COLLECTED_WITHIN_SECONDS)
        except (RunFailedError, TimeoutError) as error:
            raise CommandError(
                "not_collected", f"The last run did not collect the reports: {error}", Exit.FAILED
            ) from error

    def _moment(self) -> Moment:
        calls = {member: self._log.open_calls(member.pid) for member in self._crew.members}
        in_flight = tuple(line for lines in calls.values() for line in lines)
        files, size = self._log.hashed()
        return Moment(
            packages=len(self._packages),
            audited=len(self._log.ended_runs(_LAST_NODE)),
            files=files,
            bytes=size,
            seconds=self._seconds() - self._began,
            workers=tuple((member.number, member.pid, len(lines)) for member, lines in calls.items()),
            in_flight=in_flight,
            again=frozenset(line for line in in_flight if self._log.begun_before(line)),
        )


def _recorded_bytes(package: Package) -> int:
    """How much work it will be, roughly: packages with most come first, so that none is left alone at the end."""
    return sum(row.size for row in recorded_rows(package.metadata))


def run_key(package: Package) -> str:
    """The key of the package's run: its name, its version, and a hash of where it is; good as a file's name."""
    where = hashlib.sha256(package.metadata.encode()).hexdigest()[:8]
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", f"{package.name}-{package.version}")[:100] + f"-{where}"


async def _runs_left(app: Durable) -> list[RunSnapshot] | None:
    """The runs that have not ended; None while the store cannot be asked."""
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


async def _in_thread(ask: Callable[[], bool]) -> bool:
    """A person may take minutes: the app's connection goes on living meanwhile."""
    return await asyncio.to_thread(ask)
