"""The crew of worker processes: kept at its number, killed, frozen and told to stop with seeded chance."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from scripts.torture_parts.looks import look_at

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from scripts.torture_parts.worker import Options

ROOT = Path(__file__).resolve().parents[2]
FROZEN_LEASES = 2.5
LOOK_EVERY = 0.005
_BURIAL = re.compile(r"^(\d+\.\d+) \d+ WARNING Buried worker (\S+) ", re.MULTILINE)


class Blow(NamedTuple):
    """That somebody was killed or frozen, and what runs he held."""

    who: str
    at: float
    held: set[str]


@dataclass(slots=True)
class Toll:
    """What was done to the crew: instants in seconds since 1970."""

    killed: dict[str, float] = field(default_factory=dict)
    poisoned: dict[str, float] = field(default_factory=dict)
    stopped: dict[str, float] = field(default_factory=dict)
    frozen: dict[str, float] = field(default_factory=dict)
    blows: list[Blow] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def everybody(self) -> set[str]:
        """Whoever may have left calls that are begun again."""
        return {*self.killed, *self.poisoned, *self.stopped, *self.frozen}


class Crew:
    """So many workers, as long as it is entered; one that goes is replaced at once.

    As many spare processes have opened the store already, and none is killed before the last one's place is taken: so
    that however slow the machine is, somebody lives long enough to be fit to expire_dead the others.
    """

    def __init__(self, folder: Path, options: Options, size: int, chance: random.Random) -> None:
        self.toll = Toll()
        self._folder = folder
        self._options = options
        self._size = size
        self._chance = chance
        self._pids: dict[int, int] = {}
        self._frozen: dict[int, float] = {}
        self._made = 0
        self._spares: deque[int] = deque()
        self._called_up: set[int] = set()
        self._look = look_at(options.url)
        self._looking: set[asyncio.Task[None]] = set()
        self._nursery: asyncio.subprocess.Process
        self._reading: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        command = ["-m", "scripts.torture_parts.worker", str(self._folder), json.dumps(asdict(self._options))]
        pipe = asyncio.subprocess.PIPE
        with (self._folder / "workers.stderr").open("ab") as complaints:
            self._nursery = await asyncio.create_subprocess_exec(
                sys.executable, *command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=complaints
            )
        self._reading = asyncio.get_running_loop().create_task(self._read())
        for _ in range(2 * self._size):
            self._ask_for_one()
        for _ in range(self._size):
            self._call_up_one()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._nursery.stdin is not None:
            self._nursery.stdin.close()
        for number in list(self._frozen):
            self._thaw(number)
        await self._nursery.wait()
        await self._reading
        await asyncio.gather(*self._looking)

    @property
    def complaints(self) -> str:
        """What workers wrote to standard error."""
        return (self._folder / "workers.stderr").read_text(errors="replace")

    def buried_alive(self, gone: Mapping[str, float]) -> set[str]:
        """Whom another worker buried, as it does the frozen, before he was gone; `gone`: who, when."""
        names = {path.read_text(): path.name.replace("ready-", "w") for path in self._folder.glob("ready-*")}
        burials = [(names.get(worker), float(at)) for at, worker in _BURIAL.findall(self.complaints)]
        return {who for who, at in burials if who is not None and at < gone.get(who, at + 1)}

    async def torment(self, every: float, *, stops: float, freezes: float) -> None:
        """Kill a worker every so many seconds on average, for ever; some are stopped or frozen instead."""
        while True:
            await self._pass(self._chance.expovariate(1 / every))
            victim = await self._anyone_ready()
            drawn = self._chance.random()
            if drawn < stops:
                self.toll.stopped[f"w{victim}"] = time.time()
                self._send(victim, signal.SIGTERM)
            elif drawn < stops + freezes:
                self.toll.frozen[f"w{victim}"] = time.time()
                self._frozen[victim] = time.monotonic() + FROZEN_LEASES * self._options.lease
                self._send(victim, signal.SIGSTOP)
                self._look_at_runs_of(victim)
            else:
                self.toll.killed[f"w{victim}"] = time.time()
                self._send(victim, signal.SIGKILL)
                self._look_at_runs_of(victim)

    async def spare(self) -> None:
        """Let those go on that are frozen."""
        for number in list(self._frozen):
            self._thaw(number)

    async def _pass(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 0.1))
            for number, at in list(self._frozen.items()):
                if time.monotonic() > at:
                    self._thaw(number)

    def _thaw(self, number: int) -> None:
        del self._frozen[number]
        self._send(number, signal.SIGCONT)

    def _send(self, number: int, what: signal.Signals) -> None:
        with contextlib.suppress(KeyError, ProcessLookupError):
            os.kill(self._pids[number], what)

    async def _anyone_ready(self) -> int:
        """One of those at work, once all are who should be."""
        while True:
            if victims := self._at_work():
                return self._chance.choice(victims)
            await self._pass(LOOK_EVERY)

    def _at_work(self) -> list[int]:
        going = {number for number in self._called_up if f"w{number}" in self.toll.stopped}
        crew = self._called_up - self._frozen.keys() - going
        killed = any(f"w{number}" in self.toll.killed for number in crew)
        whole = not killed and all((self._folder / f"ready-{number}").exists() for number in crew)
        return sorted(crew) if whole else []

    def _look_at_runs_of(self, number: int) -> None:
        looking = asyncio.get_running_loop().create_task(self._see_runs_of(number, time.time()))
        self._looking.add(looking)
        looking.add_done_callback(self._looking.discard)

    async def _see_runs_of(self, number: int, at: float) -> None:
        """Note what runs it holds, at once, and when a claim that was on its way has arrived; no burial is sooner."""
        ready = self._folder / f"ready-{number}"
        try:
            worker_id = await asyncio.to_thread(ready.read_text)
        except FileNotFoundError:  # it was poisoned with the first run it took
            return
        self.toll.blows.append(Blow(f"w{number}", at, held := set()))
        for pause in (0.0, self._options.lease / 4):
            await asyncio.sleep(pause)
            held |= await asyncio.to_thread(self._look.held, worker_id)

    def _call_up_one(self) -> None:
        number = self._spares.popleft()
        self._called_up.add(number)
        (self._folder / f"go-{number}").touch()

    def _ask_for_one(self) -> None:
        self._made += 1
        self._spares.append(self._made)
        if self._nursery.stdin is not None and not self._nursery.stdin.is_closing():
            self._nursery.stdin.write(f"{self._made}\n".encode())

    async def _read(self) -> None:
        """Hear of births and deaths."""
        assert self._nursery.stdout is not None  # noqa: S101 - it was opened as a pipe
        async for line in self._nursery.stdout:
            what, number, value = line.split()
            if what == b"born":
                self._pids[int(number)] = int(value)
                continue
            who, status = f"w{int(number)}", int(value)
            self._pids.pop(int(number), None)
            self._frozen.pop(int(number), None)
            if status == -signal.SIGKILL and who not in self.toll.killed:
                self.toll.poisoned[who] = time.time()
                self._look_at_runs_of(int(number))
            elif status not in (0, -signal.SIGKILL) or (status == 0 and who not in self.toll.stopped):
                self.toll.faults.append(f"worker {who} ended by itself with {status}")
            self._ask_for_one()
            if int(number) in self._spares:
                self._spares.remove(int(number))
            else:
                self._called_up.remove(int(number))
                self._call_up_one()
