"""A run in memory: the same decisions and performing, over a list for a journal; no store, no second engine."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from stepwell.core.compensate import failure_of, names_undone
from stepwell.core.plan import plan_of
from stepwell.engine.clock import StoreClock
from stepwell.engine.driving.channels import Channels
from stepwell.engine.driving.drive import Drive
from stepwell.engine.driving.flat_run import FlatRun
from stepwell.engine.driving.perform import Performer
from stepwell.engine.driving.restore import restored
from stepwell.engine.driving.room import Room, Stay
from stepwell.engine.driving.slots import Slots
from stepwell.engine.driving.suspects import Suspects
from stepwell.engine.logging_observer import AttemptLog
from stepwell.engine.observer import Observers
from stepwell.errors import DefinitionError, RunFailedError
from stepwell.runtime.system import SystemRuntime
from stepwell.store.codec import PLAIN
from stepwell.store.readings import Readings
from stepwell.store.records import Advance, Found, History, Lease, Verdict, Wanted
from stepwell.workflow.context import Results
from stepwell.workflow.in_memory import RunResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepwell.core.journal import JournalRow
    from stepwell.core.mailbox import MessageName
    from stepwell.core.plan import Plan
    from stepwell.engine.observer import AttemptEnded
    from stepwell.runtime.protocol import Runtime
    from stepwell.workflow.declared import DeclaredType
    from stepwell.workflow.nodes import Node

_STEP_TIMEOUT_MICROS = 600_000_000
_CONCURRENCY = 1_000
_THREADS = 32


class InlineRunner:
    """Runs workflows without a store; what `durable()` hands down to the builder."""

    def __init__(self, runtime: Runtime | None = None) -> None:
        self._runtime: Runtime = SystemRuntime() if runtime is None else runtime

    def encode(self, value: object, place: str, declared: DeclaredType | None = None) -> bytes:
        """The value as stored JSON; raises PayloadError."""
        return PLAIN.encode(value, place, declared)

    async def run(
        self, name: str, nodes: tuple[Node, ...], input_type: DeclaredType | None, value: object
    ) -> RunResult:
        """Runs these nodes to their end."""
        plan = plan_of(name, nodes, input_type)
        for node, kind in zip(plan.nodes, plan.kinds, strict=True):
            if kind.needs_store:
                raise DefinitionError(f'Workflow "{plan.name}": {node.kind} "{node.name}" needs a store: use Durable.')
        began = self._runtime.monotonic()
        host = _InlineHost(self._runtime)
        try:
            results = await host.finish(plan, self.encode(value, "input", input_type))
        except GeneratorExit:
            host.close()
            raise
        except BaseException:
            await host.closed()
            raise
        await host.closed()
        return RunResult(results, timedelta(seconds=self._runtime.monotonic() - began))


class _FirstFailure(AttemptLog):
    """Logs failed attempts, and keeps the first exception that failed a node for good: the cause of the run's end."""

    def __init__(self) -> None:
        self.exception: BaseException | None = None

    def _attempt_failed(self, event: AttemptEnded) -> None:
        if event.status == "failed" and self.exception is None:
            self.exception = event.exception
        super()._attempt_failed(event)


class _InlineHost:
    """Keeps the rows of one run, and says yes to every commit."""

    worker_id = "in-memory"
    codec = PLAIN
    readings: Readings
    max_crashes = 1
    is_stopping = False

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.readings = Readings(PLAIN)
        self.room = Room(runtime.tuning, _CONCURRENCY, Suspects(self.max_crashes), _ignore)
        self.channels = Channels(lambda _: self._drive, PLAIN, "warn")
        self._drive: Drive | None = None
        self._log = _FirstFailure()
        self.observers = Observers([self._log])
        self._threads = runtime.threads(_THREADS)
        self.performer = Performer(Slots(_CONCURRENCY), self._threads, _STEP_TIMEOUT_MICROS)
        self._rows: list[JournalRow] = []
        self._last: Advance | None = None

    def close(self) -> None:
        """Ends the threads, and the task in which functions were called."""
        self._threads.close()
        self.performer.close()

    async def closed(self) -> None:
        """The same, and returns once that task has ended."""
        self._threads.close()
        await self.performer.closed()

    async def finish(self, plan: Plan, value: bytes) -> dict[str, object]:
        """Drives the run, sleeping where it is parked, until it has ended."""
        run_id = self.runtime.new_id()
        lease = Lease(run_id, 0, 0, 0, 0, 0, 0, 0, "running", None, None, None, None, value)
        state = None
        while True:
            asked_at = self.runtime.monotonic()
            clock = StoreClock(self.runtime, self.runtime.wall(), asked_at)
            if state is None:  # else it is as it was when it was parked: its rows need not be folded again
                state = restored(self, lease, plan, None, lease.status, is_new=True, lag=clock.lag)
            drive = Drive(
                self, FlatRun(self, lease, plan, state, clock, Stay(self.room, clock), asked_at, len(lease.value))
            )
            self._drive = drive
            await drive.run()
            last = self._last
            if last is None or last.awaiting:
                names = ", ".join(f'"{name}"' for name in (last.awaiting if last else ()))
                raise DefinitionError(f'Workflow "{plan.name}": {names} suspended itself, which needs a store.')
            if last.status == "completed":
                return dict(Results(drive.state.results, self.readings.of(plan), run_id, None))
            if last.status == "failed":
                failed = drive.state.failed
                raise RunFailedError(
                    run_id,
                    failure_of(drive.state),
                    names_undone(drive.state, "completed"),
                    attempt=None if failed is None else failed.attempt,
                    failed_compensations=names_undone(drive.state, "failed"),
                ) from self._log.exception
            state = drive.state
            wait = ((last.wake_at or 0) - self.runtime.wall()) / 1_000_000
            await self.runtime.sleep(max(wait, 0.0))
            lease = lease._replace(
                seq=len(self._rows), status=last.status, wake_at=last.wake_at, parked_at=last.parked_at
            )

    def takes_flat(self, drive: Drive) -> bool:  # noqa: ARG002  as the protocol has it
        """Never: what is kept in memory has no commits to share."""
        return False

    async def commit(self, advance: Advance) -> Verdict:
        """Keeps the rows."""
        self._rows += advance.rows
        self._last = advance
        return "ok"

    async def reload(self, wanted: Wanted) -> History:
        """Never asked for: every commit is accepted."""
        raise NotImplementedError

    async def find_messages(self, lease: Lease, after: Mapping[MessageName, int]) -> Found:  # noqa: ARG002  as above
        """None: nothing else can write to it."""
        return Found((*after,), 0, ())

    def child_lane(self, lease: Lease, workflow: str) -> int:
        """Never asked for: no child can run in memory."""
        raise NotImplementedError

    def on_committed(self, advance: Advance, workflow: str, results: Mapping[str, bytes] | None) -> None:
        """Nothing waits for it but its caller."""


def _ignore() -> None:
    """No claim waits for room."""
