"""One simulated history: worker processes over one store in virtual time, a client, and a fate that strikes them."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

from stepwell import Durable, StoreUnavailableError
from stepwell.store.sqlite.store import SqliteStore
from tests.simulation.check import violations
from tests.simulation.client import Client, Manner, tell
from tests.simulation.designs import designs_from
from tests.simulation.faults import FaultyStore, Shared, Weather
from tests.simulation.handlers import Builder
from tests.simulation.story import Story, beginning, ending
from tests.simulation.virtual import CURRENT, Host, Process, VirtualLoop, VirtualRuntime

if TYPE_CHECKING:
    from stepwell import Context
    from stepwell.store.protocol import Store

UNIT = 0.5
LEASE = 1.0
CALM_SECONDS = 3600.0
MANNER = Manner(looks_every=0.5, lives_for=10.0, most_live=6, cancels=0.1, early=0.2)


class _Faults(logging.Handler):
    """Keeps what the engine logs with an exception that no fault of the store's explains."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps it."""
        if record.exc_info and not isinstance(record.exc_info[1], StoreUnavailableError):
            self.found.append(f"log: {record.getMessage()} {record.exc_info[1]!r}")


@dataclass(slots=True)
class Ended:
    """A history that is over."""

    seed: int
    story: Story
    violations: list[str]
    seconds: float
    met: dict[str, int] = field(default_factory=dict)


class World:
    """Everything in one history."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = random.Random(f"world {seed}")
        self.host = Host()
        self.weather = Weather(random.Random(f"weather {seed}"))
        self.store = SqliteStore("sqlite://", self.runtime("store"))
        self.shared = Shared(self.store, self.weather, locks_tell=self.chance.random() < 0.5)
        self.designs = designs_from(seed, unit=UNIT, per_level=1, most=5)
        self.story = Story(self.designs)
        self.processes: list[Process] = []
        self.living: list[asyncio.Task[None]] = []
        self.jumps = self.chance.random() < 0.3
        self.faults: list[str] = []
        self.made = 0

    def runtime(self, name: str) -> VirtualRuntime:
        """A runtime of its own for a process."""
        return VirtualRuntime(random.Random(f"{name} {self.seed}"), name, self.host)

    def now(self) -> float:
        """The wall clock's instant in seconds, as far as it can be compared: where clocks jump, it cannot."""
        return float("inf") if self.jumps else self.store._clock.wall() / 1_000_000

    def app(self, process: Process | None, name: str) -> Durable:
        """An app over the one store, as a process of its own sees it."""
        builder = Builder(self, UNIT)
        workflows = [builder.workflow(design) for design in self.designs.values()]
        app = Durable("sqlite://", workflows, lease=LEASE, max_crashes=1_000_000, runtime=self.runtime(name))
        app._store = cast("Store", FaultyStore(self.shared, process))
        return app

    def begins(self, ctx: Context, phase: str) -> str:
        """A probe's word: keeps the line."""
        self.made += 1
        token = f"{self.made}"
        who, at = self._who(), self.now()
        self.story.lines.append(beginning(self.shared.connection, ctx, phase, who=who, at=at, token=token))
        return token

    def ends(self, ctx: Context, phase: str, token: str) -> None:
        """A probe's word: keeps the line."""
        self.story.lines.append(ending(ctx, phase, who=self._who(), at=self.now(), token=token))

    async def works(self, seconds: float | None = None) -> None:
        """A probe's word: a handler takes its time, seldom a long one, and may not live to its end."""
        drawn = self.chance.random()
        await asyncio.sleep(seconds or (2.5 * drawn if drawn > 0.9 else drawn / 20))
        process = CURRENT.get()
        if process is not None and self.weather.strikes("kills"):
            process.die()
            await asyncio.sleep(0)

    def works_plainly(self) -> None:
        """A probe's word: a plain handler takes no time."""

    def _who(self) -> str:
        process = CURRENT.get()
        return "nobody" if process is None else process.name

    async def live(self, process: Process) -> None:
        """What a worker process does: enter, work until it is told to stop, and leave."""
        app = self.app(process, process.name)
        await app.__aenter__()
        while True:
            worker = app.worker(concurrency=self.chance.randint(1, 4), grace=1)
            try:
                await worker.__aenter__()
                break
            except StoreUnavailableError:
                await asyncio.sleep(0.3)
        await asyncio.sleep(self.chance.expovariate(1 / 10))
        if not self.weather.stormy:
            await asyncio.sleep(2 * CALM_SECONDS)  # nothing is saved by a worker that leaves
        self.story.stopped.add(process.name)
        self.weather.met["clean stops"] += 1
        await worker.__aexit__(None, None, None)
        await app.__aexit__(None, None, None)
        process.die()

    async def strike(self, workers: int) -> None:
        """Keeps the number of workers, and kills, freezes and moves the clock while it is stormy."""
        while True:
            running = [process for process in self.processes if process.alive]
            for _ in range(workers - len(running)):
                process = Process(f"process-{len(self.processes)}")
                self.processes.append(process)
                self.living.append(process.begin(self.live(process)))
            await asyncio.sleep(self.chance.expovariate(1 / 1.0))
            if not self.weather.stormy:
                continue
            drawn, victim = self.chance.random(), self.chance.choice(self.processes[-workers:])
            if drawn < 0.3:
                victim.die()
                self.weather.met["kills from outside"] += 1
            elif drawn < 0.5 and victim.runs:
                victim.frozen = True
                self.story.late.add(victim.name)
                self.weather.met["freezes"] += 1
                asyncio.get_running_loop().call_later(self.chance.uniform(0, 3 * LEASE), victim.thaw)
            elif drawn < 0.55 and self.jumps:
                self.host.skew += self.chance.randint(-30_000_000, 30_000_000)
                self.weather.met["clock jumps"] += 1

    async def play(self) -> Ended:
        """The history, from its first run to the end of its last one."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unhandled)
        await self.store.migrate()
        await self.store.open()
        striking = loop.create_task(self.strike(self.chance.randint(1, 3)))
        loop.call_later(self.chance.uniform(2, 15), self._clear_up)
        async with self.app(None, "client") as app:
            client = Client(app, self.story, random.Random(f"client {self.seed}"), self.now, MANNER)
            troubling = loop.create_task(client.trouble(self.chance.randint(2, 5), 0))
            await asyncio.wait({troubling, striking}, timeout=CALM_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            self._clear_up()
            for one in (troubling, striking):
                if one.done():
                    one.result()
                one.cancel()
            await asyncio.wait({troubling, striking})
            recovered = await app.recover()
            await tell(app, self.story)
        self.story.stopped |= {one.name for one in self.processes if not one.alive}
        self.story.late |= {one.name for one in self.processes if one.buried_alive}
        found = [*client.done.faults, *self.faults, *violations(self.story)]
        if recovered:
            found.append(f"I4: recover() found {recovered} runs that nothing would have moved")
        ended = Ended(self.seed, self.story, found, loop.time(), dict(self.weather.met))
        await self._clear_away()
        return ended

    def _clear_up(self) -> None:
        self.weather.stormy = False
        for process in self.processes:
            if process.frozen and process.alive:
                process.thaw()

    async def _clear_away(self) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        for process in self.processes:
            await process.clear_away()
        await asyncio.gather(*self.shared.late)
        await self.store.close()

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, StoreUnavailableError):
            self.faults.append(f"unhandled: {context['message']} {error!r}")
        else:
            self.weather.met["unhandled " + type(error).__name__] += 1


async def _play(seed: int) -> Ended:
    return await World(seed).play()


def play(seed: int) -> Ended:
    """One history of this seed, always the same."""
    log, faults = logging.getLogger("stepwell"), _Faults()
    with ExitStack() as stack:
        stack.enter_context(patch.object(log, "propagate", new=False))
        log.addHandler(faults)
        stack.callback(log.removeHandler, faults)
        runner = stack.enter_context(asyncio.Runner(loop_factory=VirtualLoop))
        ended = runner.run(_play(seed))
    ended.violations += faults.found
    return ended
