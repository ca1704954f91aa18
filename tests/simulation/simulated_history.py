"""One simulated history: worker processes on one store in virtual time, a client, and injected faults."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from stepwell import Durable, StoreUnavailableError
from stepwell.errors import JournalError
from tests.simulation.check import violations
from tests.simulation.client import Client, tell
from tests.simulation.designs import StepSpec, Unit
from tests.simulation.faults import BrokenDriverError, FaultPlan, Shared, SimulatedStore
from tests.simulation.handlers import Builder
from tests.simulation.leaving import Leaving
from tests.simulation.loop import CURRENT, LivelockError, Process, VirtualLoop, end_all
from tests.simulation.memory import empty_store
from tests.simulation.plan import COMPENSATORS, plan_of
from tests.simulation.trace import Line, Trace, digest, ending
from tests.simulation.virtual import Host, VirtualRuntime
from tests.simulation.watch import Watch
from tests.simulation.wide import LOADS_SLOWLY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepwell import Context, Workflow
    from stepwell.store.protocol import Store
    from tests.simulation.plan import Plan

RECOVERY_SECONDS = 3600.0
GRACE_SECONDS = 0.3
_EXPLAINED = (StoreUnavailableError, BrokenDriverError)
_WAS_LOST = "were committed"
"""What a worker says that had something refused, and finds that another has gone on with the run."""


class _Faults(logging.Handler):
    """Keeps what the engine logs with an exception that no fault of the store's explains; a handler's is none."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps it."""
        error = record.exc_info[1] if record.exc_info else None
        lost = isinstance(error, JournalError) and _WAS_LOST in str(error)
        of_handler = hasattr(record, "event")
        if error is not None and not lost and not of_handler and not isinstance(error, _EXPLAINED):
            self.found.append(f"log: {record.getMessage()} {error!r}")


@dataclass(slots=True)
class Ended:
    """A history that is over: what was found wrong in it, and what it reached."""

    plan: Plan
    trace: Trace
    violations: list[str]
    seconds: float
    looks: int
    met: Counter[str]
    drawn: Counter[str]
    seen: Counter[str]
    transitions: Counter[tuple[str, str]]
    log_lines: list[str] = field(default_factory=list)


class SimulatedHistory:
    """The state of one history: the store, its processes, the client and the faults."""

    def __init__(self, plan: Plan, *, logged: bool) -> None:
        seed = plan.seed
        self.plan = plan
        self.chance = random.Random(f"world {seed}")
        self.host = Host()
        self.fault_plan = FaultPlan(random.Random(f"weather {seed}"), plan.rates, plan.without, slow_for=0.8)
        if plan.wide.slow_loads:
            self.fault_plan.slow_for = LOADS_SLOWLY
        self.trace = Trace(plan.designs)
        self.builder = Builder(self, plan.unit, self.stalls_plainly, plan.wide.sizes, self)
        self.workflows = [self.builder.workflow(design) for design in plan.designs.values()]
        self.strangers: set[str] = set()
        """The processes that come with other definitions."""
        self.processes: list[Process] = []
        self.living: list[asyncio.Task[None]] = []
        self.stops: dict[str, asyncio.Event] = {}
        self.faults: list[str] = []
        self.log_lines: list[str] | None = [] if logged else None
        self.made = 0
        self.over = False
        self.open = Counter[tuple[Process | None, str]]()
        """How many handlers each process has in flight in each run."""
        self.jumps = "clock jump" in plan.events
        self.shared: Shared
        self.watch: Watch

    def runtime(self, name: str) -> VirtualRuntime:
        """A runtime of its own for a process."""
        chance = random.Random(f"{name} {self.plan.seed}")
        apart = 0.0
        if self.plan.wide.clocks_apart and name != "store":
            apart = random.Random(f"clock {name} {self.plan.seed}").uniform(-7200, 7200)
            self.fault_plan.met["clocks apart"] += 1
        return VirtualRuntime(chance, name, self.host, apart)

    def now(self) -> float:
        """The wall clock's instant in seconds, as far as it can be compared: where clocks jump, it cannot."""
        return float("inf") if self.jumps else self.shared.store._runtime.wall() / 1_000_000

    def app(self, process: Process | None, name: str) -> Durable:
        """An app over the one store, as a process of its own sees it."""
        store, plan = cast("Store", SimulatedStore(self.shared, process)), self.plan
        workflows = self._others() if name in self.strangers else self.workflows
        options: dict[str, Any] = {"lease": plan.lease, "max_crashes": plan.max_crashes}
        return Durable(workflows=workflows, store=store, runtime=self.runtime(name), **options)

    def begins(self, ctx: Context, phase: str) -> str:
        """A probe's word: keeps the line, and looks whether the call may begin; a poisonous one ends its process."""
        self.made += 1
        token, process = f"{self.made}", CURRENT.get()
        journaled, tries = self.watch.began(ctx.run_id, phase, ctx.step, ctx.iteration)
        if process is not None and not process.expired_alive and process.name not in self.trace.late:
            self.watch.may_begin(ctx.run_id, phase, ctx.step, ctx.iteration, ctx.attempt)
        saw = {name: digest(value) for name, value in ctx.results.items()}
        facts = (ctx.run_id, phase, ctx.step, ctx.iteration, ctx.attempt, ctx.idempotency_key, token)
        line = Line("begin", self._who(), self.now(), *facts, tries, journaled, saw, ctx.resume_data, ctx.undoes_keys)
        self.trace.lines.append(line)
        self._told(line)
        if process is not None and process.name in self.strangers:
            self.faults.append(f"I4: {process.name}, whose definitions differ, began {ctx.step} [run {ctx.run_id}]")
        if asyncio.get_running_loop().time() < self.trace.not_before.get(ctx.run_id, 0.0) and not self.jumps:
            self.faults.append(f"timer: {ctx.step} began before the delay of its start was over [run {ctx.run_id}]")
        if phase == "do":
            self.open[process, ctx.run_id] += 1
            self.watch.seen["decision wait"] += self.open[process, ctx.run_id] > 1
        self.watch.seen[f"call {phase}"] += 1
        poison = {"do": ctx.step, "undo": COMPENSATORS}.get(phase)
        if poison and process is not None and ctx.input.get("poison") == poison and not self.over:
            self.fault_plan.met[f"poison, {phase}"] += 1
            process.die()
        return token

    def sub_begins(self, ctx: Context, phase: str, name: str) -> str:
        """A probe's word: looks whether the function of a sub-step may be called."""
        self.made += 1
        process = CURRENT.get()
        if process is not None and not process.expired_alive and process.name not in self.trace.late:
            self.watch.sub_may_begin(ctx.run_id, phase, ctx.step, ctx.iteration, name)
        self.watch.seen["call sub"] += 1
        return f"{self.made}"

    def sub_given(self, ctx: Context, phase: str, name: str, token: str) -> None:
        """A probe's word: what a handler is given must be stored, by whatever process it is given."""
        self.watch.sub_was_given(ctx.run_id, phase, ctx.step, ctx.iteration, name, token)

    def ends(self, ctx: Context, phase: str, token: str) -> None:
        """A probe's word: keeps the line."""
        if phase == "do":
            self.open[CURRENT.get(), ctx.run_id] -= 1
        line = ending(ctx, phase, who=self._who(), at=self.now(), token=token)
        self.trace.lines.append(line)
        self._told(line)

    async def works(self, seconds: float | None = None) -> None:
        """A probe's word: a handler takes its time, seldom a long one."""
        drawn = self.chance.random()
        await asyncio.sleep(seconds or (1.2 * drawn if drawn > 0.94 else drawn / 30))

    def works_plainly(self) -> None:
        """A probe's word: a plain handler holds its thread for a moment, seldom for long."""
        drawn = self.chance.random()
        self._takes(1.2 * drawn if drawn > 0.95 else drawn / 30)

    def stalls_plainly(self) -> None:
        """A plain handler holds its thread for longer than it may."""
        self.fault_plan.met["stuck thread"] += 1
        self._takes(self.plan.unit * self.chance.uniform(3, 12))

    def _takes(self, seconds: float) -> None:
        process = CURRENT.get()
        if process is not None:
            process.takes = seconds

    def _who(self) -> str:
        process = CURRENT.get()
        return "nobody" if process is None else process.name

    def _told(self, what: object) -> None:
        if self.log_lines is not None:
            self.log_lines.append(f"{asyncio.get_running_loop().time():.9f} {what}")

    async def live(self, process: Process) -> None:
        """What a worker process does: enter, work until it is told to stop, and leave."""
        stop = self.stops[process.name] = asyncio.Event()
        app = self.app(process, process.name)
        await app.__aenter__()
        concurrency = self.chance.randint(1, self.plan.wide.concurrency)
        leaving = Leaving(
            random.Random(f"leaving {process.name} {self.plan.seed}"), self.fault_plan, self.plan.lease, self.faults
        )
        worker = None
        while worker is None:
            entered = app.worker(concurrency=concurrency, threads=self.plan.threads, grace=GRACE_SECONDS)
            try:
                worker = await leaving.enter(entered)
            except StoreUnavailableError:
                await asyncio.sleep(0.1)
        await stop.wait()
        self.trace.stopped.add(process.name)
        await leaving.leave(worker)
        await app.__aexit__(None, None, None)
        process.die()

    async def inject_faults(self, client: Durable) -> None:
        """Keeps the number of workers constant, and injects faults while they are active."""
        plan, chance = self.plan, self.chance
        kinds, weights = list(plan.events), list(plan.events.values())
        while True:
            running = [one for one in self.processes if one.alive and one.name not in self.strangers]
            running += [self._begin_process() for _ in range(plan.workers - len(running))]
            await asyncio.sleep(chance.expovariate(1 / plan.event_seconds))
            if not self.fault_plan.active or not any(weights):
                continue
            kind, victim = chance.choices(kinds, weights)[0], chance.choice(running)
            if self.fault_plan.counts(kind):
                await self._inject(kind, victim, client)

    def _begin_process(self) -> Process:
        left = -1
        if self.plan.turns and self.fault_plan.active:
            drawn = 1 + int(self.chance.expovariate(1 / self.plan.turns))
            left = drawn if self.fault_plan.counts("kill at any await", "planned") else -1
        if self.fault_plan.active and self.plan.wide.strangers and self.chance.random() < self.plan.wide.strangers:
            stranger = Process(f"process-{len(self.processes)}")
            self.strangers.add(stranger.name)
            self.processes.append(stranger)
            self.living.append(stranger.begin(self.live(stranger)))
            self.fault_plan.met["other definitions"] += 1
        process = Process(f"process-{len(self.processes)}", left)
        self.processes.append(process)
        self.living.append(process.begin(self.live(process)))
        return process

    async def _inject(self, kind: str, victim: Process, client: Durable) -> None:
        loop, lease = asyncio.get_running_loop(), self.plan.lease
        match kind:
            case "kill":
                victim.die()
            case "freeze":
                victim.frozen = True
                self.trace.late.add(victim.name)
                loop.call_later(self.chance.uniform(0, 2.5 * lease), victim.go_on)
            case "block":
                victim.blocked = True
                loop.call_later(self.chance.uniform(0, 2.5 * lease), victim.go_on)
            case "clock jump":
                leases = 30 if self.chance.random() < 0.1 else 3
                self.host.skew += int(self.chance.uniform(-leases, leases) * lease * 1_000_000)
            case "steal":
                await self._steal(victim)
            case "stop":
                if victim.name in self.stops:
                    self.stops[victim.name].set()
            case "full disk":
                self.fault_plan.full_until = loop.time() + self.chance.uniform(0.1, 2.0)
            case "deleted run":
                self._delete_a_run()
            case _:
                with contextlib.suppress(*_EXPLAINED):
                    await client.recover()

    async def _steal(self, victim: Process) -> None:
        ids = [worker for worker, owner in self.shared.owners.items() if owner is victim]
        if ids:
            await SimulatedStore(self.shared, None).steal(ids[-1])

    def _others(self) -> list[Workflow]:
        """The same workflows with one node more: other definitions of the same names."""
        unit = Unit("more", plain=False, compensated=False)
        more = StepSpec("more", unit, suspends=0, conditional=False, retries=1, stalls=False)
        return [self.builder.workflow(replace(one, specs=(*one.specs, more))) for one in self.plan.designs.values()]

    def _delete_a_run(self) -> None:
        """Deletes the row of the newest run, if it is no child, as a person does who forgets what belongs to it."""
        connection = self.shared.connection
        newest = "SELECT ref, id, parent_id FROM stepwell_runs ORDER BY ref DESC LIMIT 1"
        found = connection.execute(newest).fetchone()
        if found is None or found[2] is not None:
            return
        self.trace.deleted.add(found[1])
        self.watch.forget(found[0])
        connection.execute("DELETE FROM stepwell_runs WHERE ref = ?", (found[0],))
        self.fault_plan.met["deleted run, newest"] += 1
        self.watch.look()

    async def play(self) -> Ended:
        """The history, from its first run to the end of its last one."""
        loop, plan = asyncio.get_running_loop(), self.plan
        loop.set_exception_handler(self._unhandled)
        store, turns = await empty_store(self.runtime("store"))
        self.shared = Shared(store, self.fault_plan, locks_tell=plan.locks_tell)
        self.watch = Watch(self.shared.connection, plan.designs, plan.max_crashes, self.shared.refused)
        self.watch.wall = None if self.jumps else store._runtime.wall
        self.watch.on_look = self._told if self.log_lines is not None else None
        turns.on_commit = self.watch.look
        loop.call_later(plan.fault_seconds, self._end_faults)
        async with self.app(None, "client") as app:
            client = Client(app, self.trace, random.Random(f"client {plan.seed}"), self.now, plan.manner)
            injecting = loop.create_task(self.inject_faults(app))
            acting = loop.create_task(client.act_on(list(plan.inputs)))
            await asyncio.wait({acting, injecting}, timeout=RECOVERY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            self._end_faults()
            for one in (acting, injecting):
                if one.done():
                    one.result()
                one.cancel()
            await asyncio.wait({acting, injecting})
            recovered = await app.recover()
            await tell(app, self.trace)
        if recovered:
            self.faults.append(f"I4: recover() found {recovered} runs that nothing would have moved")
        turns.on_commit = None
        ended = self._failure_detector(client, loop.time())
        loop.set_exception_handler(None)
        self.over = True
        await end_all(self.processes)
        await asyncio.gather(*self.shared.late)
        return ended

    def _failure_detector(self, client: Client, seconds: float) -> Ended:
        trace, watch, met = self.trace, self.watch, self.fault_plan.met
        trace.stopped |= {one.name for one in self.processes if not one.alive}
        trace.late |= {one.name for one in self.processes if one.expired_alive}
        trace.imposed, trace.refused = watch.imposed, self.shared.refused | self.shared.broken
        met.update({"kill at any await": sum(one.left == 0 for one in self.processes)})
        watch.seen.update(self.shared.decided)
        watch.seen.update({f"client: {name}": count for name, count in client.done.counts.items()})
        found = [*watch.found, *client.done.faults, *self.faults, *violations(trace)]
        watch.seen["attempted and undone"] += trace.attempted
        drawn = self.fault_plan.drawn
        return Ended(
            self.plan,
            trace,
            found,
            seconds,
            watch.looks,
            met,
            drawn,
            watch.seen,
            watch.transitions,
            self.log_lines or [],
        )

    async def break_off(self) -> list[str]:
        """Ends a history that comes to no end by itself; what was found wrong in it so far."""
        found = [*self.watch.found, *self.faults]
        asyncio.get_running_loop().set_exception_handler(None)
        self.over = True
        self._end_faults()
        await end_all(self.processes)
        return found

    def _end_faults(self) -> None:
        self.fault_plan.active = False
        self.fault_plan.full_until = 0.0
        for process in self.processes:
            if process.alive:
                process.left = -1
                process.go_on()

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, _EXPLAINED):
            self.faults.append(f"unhandled: {context['message']} {error!r}")
        else:
            self.fault_plan.met["unhandled " + type(error).__name__] += 1


def play(seed: int, without: Iterable[str] = (), *, logged: bool = False) -> Ended:
    """One history of this seed without these elements of its plan, always the same."""
    log, faults, loop = logging.getLogger("stepwell"), _Faults(), VirtualLoop()
    history = SimulatedHistory(plan_of(seed, without), logged=logged)
    propagate, level = log.propagate, log.level
    log.propagate = False
    log.setLevel(logging.ERROR)
    log.addHandler(faults)
    try:
        ended = loop.run_until_complete(history.play())
    except LivelockError as error:
        found = loop.break_off(history.break_off())
        raise LivelockError("; ".join([str(error), *found[:3]])) from error
    finally:
        loop.close()
        log.removeHandler(faults)
        log.setLevel(level)
        log.propagate = propagate
    ended.violations += faults.found
    return ended
