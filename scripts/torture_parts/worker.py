"""A worker process of the torture, and the forker, which forks one within milliseconds on request.

`python -m scripts.torture_parts.worker FOLDER OPTIONS` reads `NUMBER` lines and forks a worker for each; it answers
`started NUMBER PID` and `exited NUMBER STATUS`, and kills them all when its input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import select
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.torture_parts.direct_reads import open_reader
from stepwell import Durable, StoreUnavailableError
from tests.simulation.designs import designs_from
from tests.simulation.handlers import Builder
from tests.simulation.trace import Line, beginning_after, ending

if TYPE_CHECKING:
    from stepwell import Context
    from tests.simulation.designs import Design

LOG = "handlers.log"
_ORPHAN_POLL_SECONDS = 0.2
_SPARE_POLL_SECONDS = 0.01
_FORKER_POLL_SECONDS = 0.01
_RETRY_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Options:
    """What the workers and the client must agree on; durations in seconds."""

    url: str
    seed: int
    unit: float
    lease: float
    max_crashes: int
    concurrency: int
    long_calls: float
    """The share of calls that take 0.1 to 0.4 s; the others take up to 0.03 s."""


def designs_of(options: Options) -> dict[str, Design]:
    """The workflows of the seed by name."""
    return designs_from(options.seed, unit=options.unit, per_level=3, most=8)


class FileProbe:
    """Logs every call to an append-only file; SIGKILL truncates at most the line of a call that did not start."""

    def __init__(self, folder: Path, options: Options, who: str) -> None:
        self._reader = open_reader(options.url)
        self._long_calls = options.long_calls
        self._descriptor = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._who = who
        self._made = 0
        self._chance = random.Random(who)  # noqa: S311 - how long a pretended call takes guards nothing
        self._lock = threading.Lock()

    def begins(self, ctx: Context, phase: str) -> str:
        """Log the call, with what is journaled now; a poisonous one ends its process."""
        with self._lock:
            self._made += 1
            token = f"{self._who}-{self._made}"
            journaled = self._reader.journal(ctx.run_id)
            self._write(beginning_after(journaled, ctx, phase, who=self._who, at=time.time(), token=token))
        if phase == "do" and ctx.input.get("poison") == ctx.step:
            os.kill(os.getpid(), signal.SIGKILL)
        return token

    def ends(self, ctx: Context, phase: str, token: str) -> None:
        """Log the end of the call."""
        self._write(ending(ctx, phase, who=self._who, at=time.time(), token=token))

    async def works(self, seconds: float | None = None) -> None:
        """Wait as if for a remote service."""
        await asyncio.sleep(self._seconds() if seconds is None else seconds)

    def works_plainly(self) -> None:
        """The same, in a thread."""
        time.sleep(self._seconds())

    def _seconds(self) -> float:
        if self._chance.random() < self._long_calls:
            return self._chance.uniform(0.1, 0.4)
        return self._chance.uniform(0, 0.03)

    def _write(self, line: Line) -> None:
        os.write(self._descriptor, b"\n" + json.dumps(asdict(line)).encode())


def read_log(folder: Path) -> list[Line]:
    """Every whole line of the handlers' log, in the order they were written."""
    lines = []
    for text in (folder / LOG).read_bytes().split(b"\n"):
        with contextlib.suppress(json.JSONDecodeError):
            facts = json.loads(text)
            tuples = {name: tuple(facts[name]) for name in ("journaled", "undoes")}
            lines.append(Line(**{**facts, **tuples}))
    return lines


def app_of(options: Options, probe: Any) -> Durable:
    """An app on the tortured store that knows all workflows of the seed."""
    builder = Builder(probe, options.unit)
    designs = designs_of(options)
    return Durable(
        options.url,
        [builder.workflow(design) for design in designs.values()],
        lease=options.lease,
        max_crashes=options.max_crashes,
    )


async def work(folder: Path, options: Options, number: int) -> None:
    """Run a worker, once activated, until SIGTERM or until the forker exits; wait if the store is unavailable."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    watching = asyncio.create_task(_watch_forker(stop))
    probe = FileProbe(folder, options, f"w{number}")
    while not stop.is_set():
        try:
            async with app_of(options, probe) as app:
                await _called_up(folder, number, stop)
                async with app.worker(concurrency=options.concurrency, threads=4, grace=1) as worker:
                    await asyncio.to_thread((folder / f"ready-{number}").write_text, worker.worker_id)
                    await stop.wait()
        except StoreUnavailableError:
            await asyncio.sleep(_RETRY_SECONDS)
    watching.cancel()


async def _watch_forker(stop: asyncio.Event) -> None:
    forker = os.getppid()
    while True:
        await asyncio.sleep(_ORPHAN_POLL_SECONDS)
        if os.getppid() != forker:
            stop.set()


async def _called_up(folder: Path, number: int, stop: asyncio.Event) -> None:
    while True:
        if stop.is_set() or await asyncio.to_thread((folder / f"go-{number}").exists):
            return
        await asyncio.sleep(_SPARE_POLL_SECONDS)


def fork_worker(folder: Path, options: Options, number: int) -> int:
    """Fork a worker and return its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        asyncio.run(work(folder, options, number))
        status = 0
    except BaseException:  # noqa: BLE001  an exit that was not requested is a finding, and the status reports it
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def fork_on_request(folder: Path, options: Options) -> None:
    """Fork the workers requested on standard input until it ends."""
    alive: dict[int, int] = {}
    rest = b""
    while True:
        readable, _, _ = select.select([0], [], [], _FORKER_POLL_SECONDS)
        if readable:
            stop = os.read(0, 65536)
            if not stop:
                break
            *numbers, rest = (rest + stop).split(b"\n")
            for number in map(int, numbers):
                pid = fork_worker(folder, options, number)
                alive[pid] = number
                print(f"started {number} {pid}", flush=True)
        while alive:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            print(f"exited {alive.pop(pid)} {os.waitstatus_to_exitcode(status)}", flush=True)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(created).3f %(process)d %(levelname)s %(message)s")
    fork_on_request(Path(sys.argv[1]), Options(**json.loads(sys.argv[2])))
