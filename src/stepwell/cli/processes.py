"""`worker --processes N`: a supervisor that keeps N worker processes alive; it claims nothing by itself.

Each process is this command again, in a session of its own, so that Ctrl-C reaches the supervisor alone. All of them
hold the end of one pipe whose other end only the supervisor has: when that closes, because they are to stop or because
the supervisor is no more, each stops cleanly. So none is ever left behind, and none is told twice.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from stepwell.cli.loading import opened
from stepwell.cli.problems import CommandError, Exit
from stepwell.cli.settings import APP_VARIABLE, URL_VARIABLE
from stepwell.cli.stopping import Stopping, stopping_words
from stepwell.cli.text import counted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from stepwell import Durable
    from stepwell.cli.settings import Settings

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
LIVED_SECONDS = 60.0
"""A process that lived so long did not die of how it was started: the next pause is the first again."""
STOP_SECONDS = 15.0
"""What a process may take besides its handlers' grace, to give its runs back to a store that is slow or away."""


class WorkerOptions(NamedTuple):
    """What a worker is to be, as the command's options say it."""

    concurrency: int
    threads: int
    grace: float
    queues: tuple[str, ...]

    def worker(self, app: Durable) -> AbstractAsyncContextManager[object]:
        """The app's worker that is so."""
        queues = list(self.queues) or None
        return app.worker(concurrency=self.concurrency, threads=self.threads, grace=self.grace, queues=queues)

    def command(self, settings: Settings) -> list[str]:
        """The words that start a process with such a worker; its environment names the app and the store, unseen."""
        command = [sys.executable, "-m", "stepwell.cli", "worker"]
        command += [
            "--concurrency",
            str(self.concurrency),
            "--threads",
            str(self.threads),
            "--grace",
            f"{self.grace:f}",
        ]
        command += [word for queue in self.queues for word in ("--queue", queue)]
        for option, value in (("--log-format", settings.log_format), ("--log-level", settings.log_level)):
            command += [] if value is None else [option, value]
        return [*command, "--json"] if settings.as_json else command


async def supervise(
    found: Durable | Awaitable[Any],
    settings: Settings,
    processes: int,
    options: WorkerOptions,
    tell: Callable[[str], None],
) -> int:
    """Is the supervisor of so many worker processes until it is asked to stop; its exit code."""
    async with opened(found, settings) as app:  # what is wrong with the app or its store is told here, and once
        if not app.shared:
            raise CommandError("usage", f"{app.safe_url} is in one process's memory: no other can work on it.")
        options.worker(app)
        place, workflows = app.safe_url, counted(app.workflows)
    with Stopping() as stopping:
        supervisor = Supervisor(options.command(settings), settings, stopping, tell)
        stopping.before_end = supervisor.kill
        tell(f"Working on {place} in {processes} processes: {workflows}. Ctrl-C to stop.")
        code = await supervisor.run(processes, stopping_words(options.grace), options.grace + STOP_SECONDS)
        tell("Stopped." if code == Exit.DONE else "Stopped, but not every process cleanly.")
    return code


class Supervisor:
    """Keeps so many processes of a command alive until it is asked to stop, and tells what becomes of them."""

    def __init__(
        self, command: Sequence[str], settings: Settings, stopping: Stopping, tell: Callable[[str], None]
    ) -> None:
        told = {APP_VARIABLE: settings.app, URL_VARIABLE: settings.url}
        self._environment = {**os.environ, **{name: value for name, value in told.items() if value is not None}}
        self._command = command
        self._stopping = stopping
        self._tell = tell
        self._alive: set[asyncio.subprocess.Process] = set()

    async def run(self, processes: int, words: str, seconds: float) -> int:
        """Keeps them alive until asked to stop, which it tells in these words; 0 if all have stopped cleanly.

        Who has not stopped after so many seconds is killed: a blocked event loop never hears that it should.
        """
        with _pipe() as (held, let_go):
            async with asyncio.TaskGroup() as group:
                places = [group.create_task(self._keep(held)) for _ in range(processes)]
                await self._stopping.asked()
                self._tell(words)
                let_go()
                _, late = await asyncio.wait(places, timeout=seconds)
                if late:
                    self.kill()
                    self._tell(f"Killed {len(late)} that did not stop; others will go on with their runs.")
        return Exit.DONE if all(place.result() for place in places) else Exit.FAILED

    def kill(self) -> None:
        """Ends all processes at once."""
        for process in self._alive:
            if process.returncode is None:
                process.kill()

    async def _keep(self, held: int) -> bool:
        """One process after the other, until asked to stop; whether the last one stopped cleanly."""
        clock = asyncio.get_running_loop().time
        pause = FIRST_PAUSE_SECONDS
        while True:
            began = clock()
            code, end = await self._one(held)
            if self._stopping.signum is not None:
                return code == Exit.DONE
            if clock() - began >= LIVED_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            self._tell(f"{end}; another one starts in {pause:g} s.")
            try:
                await asyncio.wait_for(self._stopping.asked(), pause)
            except TimeoutError:
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                return True

    async def _one(self, held: int) -> tuple[int, str]:
        """One process, from its start to its end: its exit code, and how it ended."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                "--supervised",
                str(held),
                stdin=asyncio.subprocess.DEVNULL,
                env=self._environment,
                pass_fds=(held,),
                start_new_session=True,
            )
        except OSError as error:
            return Exit.FAILED, f"A process cannot be started ({error.strerror})"
        self._alive.add(process)
        self._tell(f"Process {process.pid} started.")
        code = await process.wait()
        self._alive.discard(process)
        return code, f"Process {process.pid} {_end_of(code)}"


@contextmanager
def _pipe() -> Iterator[tuple[int, Callable[[], None]]]:
    """The end that processes hold, and what closes the other one."""
    held, other = os.pipe()
    is_open = [other]

    def let_go() -> None:
        while is_open:
            os.close(is_open.pop())

    try:
        yield held, let_go
    finally:
        let_go()
        os.close(held)


def _end_of(code: int) -> str:
    if code >= 0:
        return f"ended by itself with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
