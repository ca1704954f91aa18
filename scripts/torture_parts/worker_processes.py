"""The worker processes of the torture: kept at a constant number, and killed, frozen or stopped at seeded random."""

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

from scripts.torture_parts.direct_reads import open_reader

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from scripts.torture_parts.worker import Options

ROOT = Path(__file__).resolve().parents[2]
FROZEN_LEASES = 2.5
POLL_SECONDS = 0.005
EXPIRED = re.compile(r"^(\d+\.\d+) \d+ WARNING Worker (\S+) on host \S+ is dead ", re.MULTILINE)
"""The log line of a worker that was declared dead: the time in seconds since 1970, and the id of the worker."""


class Interruption(NamedTuple):
    """A worker that was killed or frozen, and the runs it held."""

    who: str
    at: float
    held: set[str]


@dataclass(slots=True)
class Disruptions:
    """What was done to the workers; times are in seconds since 1970."""

    killed: dict[str, float] = field(default_factory=dict)
    poisoned: dict[str, float] = field(default_factory=dict)
    stopped: dict[str, float] = field(default_factory=dict)
    frozen: dict[str, float] = field(default_factory=dict)
    interruptions: list[Interruption] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def all_workers(self) -> set[str]:
        """The workers that may have left calls which start again."""
        return {*self.killed, *self.poisoned, *self.stopped, *self.frozen}


class WorkerProcesses:
    """Keeps `size` workers running while it is entered; replaces each one that exits at once.

    An equal number of spare processes have already opened the store, and no worker is killed before the last one was
    replaced. So even on a slow machine some worker lives long enough to declare the others dead.
    """

    def __init__(self, folder: Path, options: Options, size: int, chance: random.Random) -> None:
        self.disruptions = Disruptions()
        self._folder = folder
        self._options = options
        self._size = size
        self._chance = chance
        self._pids: dict[int, int] = {}
        self._frozen: dict[int, float] = {}
        self._made = 0
        self._spares: deque[int] = deque()
        self._called_up: set[int] = set()
        self._reader = open_reader(options.url)
        self._looking: set[asyncio.Task[None]] = set()
        self._forker: asyncio.subprocess.Process
        self._reading: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        command = ["-m", "scripts.torture_parts.worker", str(self._folder), json.dumps(asdict(self._options))]
        pipe = asyncio.subprocess.PIPE
        with (self._folder / "workers.stderr").open("ab") as stderr:
            self._forker = await asyncio.create_subprocess_exec(
                sys.executable, *command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=stderr
            )
        self._reading = asyncio.get_running_loop().create_task(self._read())
        for _ in range(2 * self._size):
            self._ask_for_one()
        for _ in range(self._size):
            self._call_up_one()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._forker.stdin is not None:
            self._forker.stdin.close()
        for number in list(self._frozen):
            self._thaw(number)
        await self._forker.wait()
        await self._reading
        await asyncio.gather(*self._looking)

    @property
    def stderr(self) -> str:
        """The workers' standard error."""
        return (self._folder / "workers.stderr").read_text(errors="replace")

    def expired_alive(self, gone: Mapping[str, float]) -> set[str]:
        """The workers that were declared dead before they exited; `gone` maps workers to the time of their exit."""
        names = {path.read_text(): path.name.replace("ready-", "w") for path in self._folder.glob("ready-*")}
        expired = [(names.get(worker), float(at)) for at, worker in EXPIRED.findall(self.stderr)]
        return {who for who, at in expired if who is not None and at < gone.get(who, at + 1)}

    async def disrupt(self, every: float, *, stops: float, freezes: float) -> None:
        """Kill a worker every `every` seconds on average, forever; stop or freeze some instead."""
        while True:
            await self._pass(self._chance.expovariate(1 / every))
            victim = await self._anyone_ready()
            drawn = self._chance.random()
            if drawn < stops:
                self.disruptions.stopped[f"w{victim}"] = time.time()
                self._send(victim, signal.SIGTERM)
            elif drawn < stops + freezes:
                self.disruptions.frozen[f"w{victim}"] = time.time()
                self._frozen[victim] = time.monotonic() + FROZEN_LEASES * self._options.lease
                self._send(victim, signal.SIGSTOP)
                self._look_at_runs_of(victim)
            else:
                self.disruptions.killed[f"w{victim}"] = time.time()
                self._send(victim, signal.SIGKILL)
                self._look_at_runs_of(victim)

    async def thaw_all(self) -> None:
        """Let the frozen workers continue."""
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
        """A random worker, once all of them are ready."""
        while True:
            if victims := self._at_work():
                return self._chance.choice(victims)
            await self._pass(POLL_SECONDS)

    def _at_work(self) -> list[int]:
        going = {number for number in self._called_up if f"w{number}" in self.disruptions.stopped}
        workers = self._called_up - self._frozen.keys() - going
        killed = any(f"w{number}" in self.disruptions.killed for number in workers)
        whole = not killed and all((self._folder / f"ready-{number}").exists() for number in workers)
        return sorted(workers) if whole else []

    def _look_at_runs_of(self, number: int) -> None:
        looking = asyncio.get_running_loop().create_task(self._see_runs_of(number, time.time()))
        self._looking.add(looking)
        looking.add_done_callback(self._looking.discard)

    async def _see_runs_of(self, number: int, at: float) -> None:
        """Record the runs it holds now, and again once a claim in flight has arrived; no expiry is faster."""
        ready = self._folder / f"ready-{number}"
        try:
            worker_id = await asyncio.to_thread(ready.read_text)
        except FileNotFoundError:  # A poison step killed it in its first run.
            return
        self.disruptions.interruptions.append(Interruption(f"w{number}", at, held := set()))
        for pause in (0.0, self._options.lease / 4):
            await asyncio.sleep(pause)
            held |= await asyncio.to_thread(self._reader.held, worker_id)

    def _call_up_one(self) -> None:
        number = self._spares.popleft()
        self._called_up.add(number)
        (self._folder / f"go-{number}").touch()

    def _ask_for_one(self) -> None:
        self._made += 1
        self._spares.append(self._made)
        if self._forker.stdin is not None and not self._forker.stdin.is_closing():
            self._forker.stdin.write(f"{self._made}\n".encode())

    async def _read(self) -> None:
        """Read which workers have started and exited."""
        assert self._forker.stdout is not None  # noqa: S101 - it was opened as a pipe
        async for line in self._forker.stdout:
            what, number, value = line.split()
            if what == b"started":
                self._pids[int(number)] = int(value)
                continue
            who, status = f"w{int(number)}", int(value)
            self._pids.pop(int(number), None)
            self._frozen.pop(int(number), None)
            if status == -signal.SIGKILL and who not in self.disruptions.killed:
                self.disruptions.poisoned[who] = time.time()
                self._look_at_runs_of(int(number))
            elif status not in (0, -signal.SIGKILL) or (status == 0 and who not in self.disruptions.stopped):
                self.disruptions.faults.append(f"worker {who} exited by itself with status {status}")
            self._ask_for_one()
            if int(number) in self._spares:
                self._spares.remove(int(number))
            else:
                self._called_up.remove(int(number))
                self._call_up_one()
