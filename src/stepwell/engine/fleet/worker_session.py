"""One worker id's time in the store: from being enlisted to being retired, or declared dead."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from stepwell.core.damage import check_length, check_messages, check_run
from stepwell.core.needed import Needed, needed
from stepwell.engine.clock import StoreClock
from stepwell.engine.driving.channels import Channels
from stepwell.engine.driving.committer import Committer
from stepwell.engine.driving.flat_run import FlatRun
from stepwell.engine.driving.held_runs import HeldRuns
from stepwell.engine.driving.restore import restored
from stepwell.engine.driving.room import Room, Stay
from stepwell.engine.driving.suspects import Suspects, SuspectsRoom, warn_of_suspects
from stepwell.engine.driving.telling import Telling, tell_lost
from stepwell.engine.fleet.damaged_runs import PUT_OFF_MICROS, DamagedRuns
from stepwell.engine.fleet.events import Completed
from stepwell.engine.fleet.heartbeat import Heartbeat
from stepwell.engine.observer import RunsClaimed
from stepwell.engine.outage import retry_while_unavailable
from stepwell.errors import JournalError, StoreUnavailableError
from stepwell.store.background import begin
from stepwell.store.logs import logger
from stepwell.store.readings import Readings
from stepwell.store.records import Advance, Claimed, Found, History, Lease, Offer, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from stepwell.core.mailbox import MessageName
    from stepwell.engine.driving.committer import Receiver
    from stepwell.engine.driving.drive import Drive
    from stepwell.engine.driving.perform import Performer
    from stepwell.engine.fleet.events import Events
    from stepwell.engine.fleet.lanes import Lanes
    from stepwell.engine.observer import Observers
    from stepwell.engine.settings import Settings
    from stepwell.runtime.protocol import Runtime
    from stepwell.store.codec import Codec
    from stepwell.store.protocol import Store
    from stepwell.store.records import Verdict

_log = logger("stepwell.worker")
_run_log = logger("stepwell.run")


class WorkerSession:
    """The runs a worker holds under one id, and all they need."""

    def __init__(
        self,
        worker_id: str,
        *,
        store: Store,
        runtime: Runtime,
        settings: Settings,
        lanes: Lanes,
        events: Events,
        performer: Performer,
        concurrency: int,
        on_room: Callable[[], None],
        on_declared_dead: Callable[[], None],
    ) -> None:
        self.worker_id = worker_id
        self.runtime = runtime
        self.performer = performer
        self.observers: Observers = settings.observers
        self.codec: Codec = settings.codec
        self.readings: Readings = Readings(settings.codec)
        self.max_crashes: int = settings.max_crashes
        self.is_stopping: bool = False
        self.room: Room = Room(runtime.tuning, concurrency, Suspects(settings.max_crashes), on_room)
        self._store = store
        self._settings = settings
        self._lanes = lanes
        self._events = events
        self._on_declared_dead = on_declared_dead
        self._committer = Committer(store, runtime, worker_id, settings.observers)
        self.commit: Callable[[Advance], asyncio.Future[Verdict]] = self._committer.commit
        self.submit: Callable[[Advance, int, Receiver], None] = self._committer.submit
        self._runs = HeldRuns(self)
        self.channels: Channels = Channels(self._runs.get, settings.codec, settings.on_drift)
        self.takes_flat: Callable[[Drive], bool] = self._runs.takes_flat
        self._arriving: dict[str, int] = {}
        self._unknown: dict[str, int] = {}
        self._returned: dict[str, int] = {}
        self._asked: set[str] = set()
        self._needed: dict[tuple[int, bool], Needed | None] = {}
        self._background: asyncio.Task[None] | None = None
        self._is_over = False
        self.damaged: DamagedRuns = DamagedRuns(worker_id, store, lanes, events, self.give_back)
        self.park_damaged: Callable[[Lease, JournalError], Coroutine[Any, Any, None]] = self.damaged.park
        self.served: list[int] = []
        """The lanes that it serves."""
        self.heartbeat: Heartbeat | None = None
        self._fit_since = runtime.monotonic()

    @property
    def held(self) -> int:
        """How many runs it holds."""
        return len(self._runs)

    @property
    def suspects_room(self) -> SuspectsRoom:
        """How many runs that crashed workers it may take, so that a poison step fails alone."""
        return self.room.suspects.room(run.crashes for run in self._runs if run.is_suspect)

    @property
    def fit_since(self) -> float:
        """Since when every beat has succeeded, in monotonic seconds; now, if the last one is overdue."""
        beat = self.heartbeat
        if beat is not None and self.runtime.monotonic() - beat.succeeded_at > self._settings.lease_seconds / 2:
            self._fit_since = self.runtime.monotonic()
        return self._fit_since

    async def begin(self, host: str, lanes: Sequence[int] = (), concurrency: int = 0) -> None:
        """Enlists the worker, with what it serves, and starts its beat."""
        self.served = list(lanes)
        offer = Offer(self.served, concurrency, self._settings.lease_micros)
        heartbeat_connection = await self._store.enlist(self.worker_id, host, offer)
        if self._store.shared:
            seconds = self._settings.lease_seconds
            self.heartbeat = Heartbeat(
                self.runtime,
                heartbeat_connection,
                seconds,
                self._reconcile,
                self._longest_timeout,
                worker_id=self.worker_id,
            )
            self.heartbeat.start()

    async def serve(self, lanes: Sequence[int]) -> None:
        """Tells the store which lanes the worker serves, if they are others than before."""
        if self.served != list(lanes):
            await self._store.serve(self.worker_id, lanes)
            self.served = list(lanes)

    async def take(self, claimed: Claimed, asked_at: float) -> None:
        """Drives freshly claimed runs; `asked_at`: when the claim set out, in monotonic seconds."""
        clock = StoreClock(self.runtime, claimed.now, asked_at)
        again = [lease for lease in claimed.leases if self._is_driven(lease)]
        if again:  # the store forgot that they were leased, as a standby does that lacks the last commits
            self.cancel(lease.run_id for lease in again)
            await self.give_back({lease.run_id: lease.token for lease in again})
        fresh = (lease for lease in claimed.leases if lease not in again)
        leases = [lease for lease in fresh if self._returned.get(lease.run_id) != lease.token]
        self._tell_claimed(leases, asked_at)
        old: list[Lease] = []
        new: list[Lease] = []
        for lease in leases:
            (old if lease.seq or lease.messages or lease.token > 1 else new).append(lease)
        arriving = {lease.run_id: lease.token for lease in leases}
        self._arriving |= arriving
        try:
            for lease in new:
                await self._drive_on(lease, None, clock)
            while old:
                histories = await self._store.load([self._wanted(lease) for lease in old])
                for lease in old[: len(histories)]:
                    await self._drive_on(lease, histories[lease.run_id], clock)
                old = old[len(histories) :]
                if old and not self.room.to_load:
                    await self.give_back({lease.run_id: lease.token for lease in old})
                    break
        finally:
            self._arriving = dict(self._arriving.items() - arriving.items())

    async def _drive_on(self, lease: Lease, history: History | None, clock: StoreClock) -> None:
        """Drives a claimed run whose past is here."""
        try:
            try:
                run = self._run_of(lease, history, clock)
            except JournalError:
                # A file's reader whose locks were dropped by a `close` in this process may have seen pages of two
                # moments. Only what is read twice is damage.
                history = await self.reload(self._wanted(lease))
                run = self._run_of(lease, history, clock)
        except JournalError as error:
            await self.park_damaged(lease, error)
        except Exception:  # noqa: BLE001  one run's fault must not stop the others
            _run_log.exception("Run %s cannot be continued; trying again in a minute.", lease.run_id)
            await self.give_back({lease.run_id: lease.token}, PUT_OFF_MICROS)
        else:
            # With token 1 it is the first owner ever: every other one has raised it.
            if lease.token == 1 and self.observers.are_heard(self.observers.run_started):
                Telling(self.observers, lease.run_id, run.plan.name, self.worker_id).started(clock.now())
            self._runs.begin(run)
            if lease.run_id in self._asked:
                self._asked.discard(lease.run_id)
                self._runs.ask_cancel([lease.run_id])

    def _run_of(self, lease: Lease, history: History | None, clock: StoreClock) -> FlatRun:
        """Where a claimed run stands; raises JournalError if its stored past cannot be what happened."""
        rows, found = ((), ()) if history is None else (history.rows, history.found.found)
        check_run(lease, rows, self.codec)
        check_messages(lease, found, self.codec)
        plan = self._lanes.plan(lease.lane)
        self.readings.of(plan).check_input(lease.value, lease.run_id)
        state = restored(self, lease, plan, history, lease.status, is_new=True, lag=clock.lag)
        check_length(lease, state.seq)
        size = len(lease.value) + (0 if history is None else history.size)
        return FlatRun(self, lease, plan, state, clock, Stay(self.room, clock), self.runtime.monotonic(), size)

    def _tell_claimed(self, leases: list[Lease], asked_at: float) -> None:
        warn_of_suspects(leases, self.max_crashes)
        if leases and self.observers.claimed:
            took = timedelta(seconds=self.runtime.monotonic() - asked_at)
            event = RunsClaimed(self.worker_id, tuple(lease.run_id for lease in leases), took)
            self.observers.tell(self.observers.claimed, event)

    def _is_driven(self, lease: Lease) -> bool:
        """Whether it is driven here under this token already, or under a later one."""
        held = self._runs.get(lease.run_id)
        return held is not None and not held.is_over and held.token >= lease.token

    def cancel(self, run_ids: Iterable[str]) -> None:
        """Stops the drives of runs that are not ours any more."""
        self._runs.stop(run_ids)

    def ask_cancel(self, run_ids: Sequence[str]) -> None:
        """Tells the drives of these runs that a cancel was requested; what arrives now is told when it is driven."""
        self._runs.ask_cancel(run_ids)
        self._asked.update(run_id for run_id in run_ids if run_id in self._arriving)

    async def stop(self, grace: float) -> None:
        """Lets handlers in flight end within `grace` seconds, cancels the rest, gives everything back."""
        self.is_stopping = True
        until = self.runtime.monotonic() + grace
        await self._runs.ended_within(grace)
        self._runs.stop()
        await self._end_handlers(1.0)
        await self._committer.close(max(until - self.runtime.monotonic(), 1.0))
        self._is_over = True
        if self.heartbeat is not None:
            await self.heartbeat.stop()
        await self._retire()

    def drop(self) -> None:
        """Stops all that is done under this id, beats and handlers, without waiting for their end."""
        self.is_stopping = self._is_over = True
        if self.heartbeat is not None:
            self.heartbeat.halt()
        if self._background is not None:
            self._background.cancel()
        # Not those that were cancelled before: a second cancel would take them what they need for their end.
        self._runs.stop(again=False)

    async def end_quickly(self, seconds: float) -> None:
        """What is left to do after `drop`, within that many seconds; a store that is slower frees the runs by lease."""
        until = self.runtime.monotonic() + seconds
        await self._end_handlers(seconds / 4)
        await self._committer.close(seconds / 4)
        retiring = begin(self._retire, name="stepwell-retire")
        left = {retiring} if self.heartbeat is None else {retiring, self.heartbeat.finished}
        await asyncio.wait(left, timeout=max(until - self.runtime.monotonic(), seconds / 4))
        if not retiring.done():
            retiring.cancel()
            _log.warning("Worker %s could not give its runs back in time; its lease ends.", self.worker_id)
            return
        retiring.result()

    async def abandon(self) -> None:
        """Drops everything: the worker was declared dead, and its runs are others'."""
        self.is_stopping = True
        tell_lost(self.observers, self.worker_id, [run.run_id for run in self._runs])
        self._runs.stop()
        await self._committer.close(0)
        if self.heartbeat is not None:
            await self.heartbeat.stop()

    def _wanted(self, lease: Lease) -> Wanted:
        """What is needed to go on with a claimed run: of its mailbox, what the node at hand can use."""
        plan, place = self._lanes.plan(lease.lane), lease.position
        compensating = lease.status == "compensating"
        lane = (lease.lane, compensating)
        if lane not in self._needed:
            self._needed[lane] = needed(plan, compensating=compensating)
        message = None
        if lease.messages and 0 <= place < len(plan.nodes):
            message = plan.kinds[place].awaits(plan.nodes[place])
        return Wanted(lease, message, self._needed[lane])

    async def reload(self, wanted: Wanted) -> History:
        """The run's past as it is stored now; an unavailable store is asked again, so that no outcome is dropped."""
        run_id = wanted.lease.run_id
        who = f"Run {run_id} must be read again"
        return (await retry_while_unavailable(self.runtime, who, lambda: self._store.load([wanted])))[run_id]

    async def find_messages(self, lease: Lease, after: Mapping[MessageName, int]) -> Found:
        """The run's first unread message of each name behind its number; an unavailable store is asked again."""
        first = next(iter(after))
        who = f"Run {lease.run_id} must look for {first.kind} {first.name!r}"
        if len(after) > 1:
            who += f" and {len(after) - 1} more"
        found = await retry_while_unavailable(self.runtime, who, lambda: self._store.find_messages(lease, after))
        check_messages(lease, found.found, self.codec)
        return found

    def child_lane(self, lease: Lease, workflow: str) -> int:
        """The lane of a child of this run."""
        return self._lanes.child(lease.lane, workflow)

    def on_committed(self, advance: Advance, workflow: str, results: Mapping[str, bytes] | None) -> None:
        """Passes on what a commit means to others in this process."""
        if advance.ended:
            self._events.ended(advance.run_id, None if results is None else Completed(workflow, results))
        if advance.spawned or advance.child_end is not None or advance.due_at is not None:
            self._events.due()

    async def _end_handlers(self, seconds: float) -> None:
        """Waits so long for the end of handlers that were cancelled, and once more for what swallowed that."""
        await self._runs.ended_within(seconds)
        if len(self._runs):
            self.performer.is_over = True
            self._runs.stop()
            await self._runs.ended_within(seconds)

    async def _retire(self) -> None:
        try:
            await self._store.retire(self.worker_id)
        except StoreUnavailableError as error:
            _log.warning("Worker %s cannot give its runs back; others will declare it dead: %s", self.worker_id, error)

    async def give_back(self, tokens: dict[str, int], delay: int = 0) -> None:
        """Lets go of runs that are leased to us and not driven; those that the store does not hear of, a beat finds."""
        try:
            await self._store.give_back(self.worker_id, tokens, delay)
        except StoreUnavailableError as error:
            _log.warning("%d runs stay leased to us for now: %s", len(tokens), error)
        else:
            self._events.due()

    def look_for_answers(self, run_id: str) -> None:
        """A signal for a run was accepted: if it is held here, and waits for handlers, it looks for it."""
        self._runs.look_for_answers(run_id)

    async def look_for_lost(self) -> None:
        """Drops the runs that were canceled or taken by other processes, sooner than the beat would tell.

        And cancels what is in flight of those of which a cancel was requested, which are to be undone then.
        """
        if len(self._runs):
            began = self.runtime.monotonic()
            leased = await self._store.reader.leased(self.worker_id)
            self._drop_lost(leased.tokens, began)
            self._runs.ask_cancel(leased.canceling)

    def _drop_lost(self, leased: Mapping[str, int], began: float) -> None:
        held = (run for run in self._runs if run.begun < began)
        gone = tuple(run.run_id for run in held if leased.get(run.run_id) != run.token and not run.is_committing)
        self.cancel(gone)
        tell_lost(self.observers, self.worker_id, gone)

    def _reconcile(self, leased: dict[str, int] | None, began: float) -> None:
        """Compares what the store says we hold with what we drive."""
        if self._is_over:
            return  # a beat that was under way when the worker stopped
        if leased is None:
            _log.error(
                "Worker %s was declared dead; it drops its %d runs and goes on under a new id.",
                self.worker_id,
                self.held,
            )
            self._on_declared_dead()
            return
        self._drop_lost(leased, began)
        known = self._arriving | {run.run_id: run.token for run in self._runs}
        unknown = {run: token for run, token in leased.items() if known.get(run) != token}
        strangers = dict(unknown.items() & self._unknown.items())
        self._unknown = unknown
        if strangers:
            self._returned = strangers
            _log.warning("Giving back %d runs that are leased to us but were never received.", len(strangers))
            self._background = begin(self.give_back, strangers, name="stepwell-give-back")

    def _longest_timeout(self) -> float:
        return max((run.longest_timeout() for run in self._runs), default=0.0)
