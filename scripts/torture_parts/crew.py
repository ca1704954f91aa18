"""The crew of worker processes: kept at its number, killed, frozen and told to stop with seeded chance."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import random

    from scripts.torture_parts.worker import Options

ROOT = Path(__file__).resolve().parents[2]
FROZEN_LEASES = 2.5
LOOK_EVERY = 0.005


@dataclass(slots=True)
class Toll:
    """What was done to the crew: instants in seconds since 1970."""

    killed: dict[str, float] = field(default_factory=dict)
    poisoned: dict[str, float] = field(default_factory=dict)
    stopped: dict[str, float] = field(default_factory=dict)
    frozen: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def everybody(self) -> set[str]:
        """Whoever may have left calls that are begun again."""
        return {*self.killed, *self.poisoned, *self.stopped, *self.frozen}


class Crew:
    """So many workers, as long as it is entered; one that goes is replaced at once."""

    def __init__(self, folder: Path, options: Options, size: int, chance: random.Random) -> None:
        self.toll = Toll()
        self._folder = folder
        self._options = options
        self._size = size
        self._chance = chance
        self._pids: dict[int, int] = {}
        self._frozen: dict[int, float] = {}
        self._made = 0
        self._changed = asyncio.Event()
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
        for _ in range(self._size):
            self._ask_for_one()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._nursery.stdin is not None:
            self._nursery.stdin.close()
        for number in list(self._frozen):
            self._thaw(number)
        await self._nursery.wait()
        await self._reading

    @property
    def complaints(self) -> str:
        """What workers wrote to standard error."""
        return (self._folder / "workers.stderr").read_text(errors="replace")

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
            else:
                self.toll.killed[f"w{victim}"] = time.time()
                self._send(victim, signal.SIGKILL)

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
        told = self.toll
        while True:
            ready = [
                number
                for number in self._pids
                if not {f"w{number}"} & {*told.killed, *told.stopped}
                and number not in self._frozen
                and (self._folder / f"ready-{number}").exists()
            ]
            if ready:
                return self._chance.choice(ready)
            await self._pass(LOOK_EVERY)

    def _ask_for_one(self) -> None:
        self._made += 1
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
            elif status not in (0, -signal.SIGKILL) or (status == 0 and who not in self.toll.stopped):
                self.toll.faults.append(f"worker {who} ended by itself with {status}")
            self._ask_for_one()
