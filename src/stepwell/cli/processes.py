"""`worker --processes N`: a supervisor that keeps N worker processes alive; it claims no runs itself.

Each process runs this command again in its own session, so that Ctrl-C reaches only the supervisor. All of them hold
one end of a pipe, and the supervisor holds the other. When the supervisor closes its end, or dies, each process stops
cleanly. So no process outlives the supervisor.
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
from stepwell.cli.stopping import Stopping, stopping_message
from stepwell.cli.text import counted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from stepwell import Durable
    from stepwell.cli.settings import Settings

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
LIVED_SECONDS = 60.0
"""If a process lived this long, the restart delay is reset."""
STOP_SECONDS = 15.0
"""The time that a process has after the grace period, to give its runs back to a slow or unavailable store."""


class WorkerOptions(NamedTuple):
    """The options of a worker."""

    concurrency: int
    threads: int
    grace: float
    queues: tuple[str, ...]

    def worker(self, app: Durable) -> AbstractAsyncContextManager[object]:
        """The app's worker with these options."""
        queues = list(self.queues) or None
        return app.worker(concurrency=self.concurrency, threads=self.threads, grace=self.grace, queues=queues)

    def command(self, settings: Settings) -> list[str]:
        """The command line of a worker process; app and store are in its environment, where `ps` does not show them."""
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
    """Supervise `processes` worker processes until asked to stop; returns the exit code."""
    async with opened(found, settings) as app:  # Reports errors in the app or its store once, before any start.
        if not app.shared:
            message = f"--processes needs a store that processes can share, but {app.safe_url} is in memory."
            raise CommandError("usage", message)
        options.worker(app)
        place, workflows = app.safe_url, counted(app.workflows)
    with Stopping() as stopping:
        supervisor = Supervisor(options.command(settings), settings, stopping, tell)
        stopping.before_end = supervisor.kill
        tell(f"Working on {place} in {processes} processes: {workflows}. Press Ctrl-C to stop.")
        code = await supervisor.run(processes, stopping_message(options.grace), options.grace + STOP_SECONDS)
        tell("Stopped." if code == Exit.DONE else "Stopped; at least one process did not stop cleanly.")
    return code


class Supervisor:
    """Keeps processes of a command alive until asked to stop, and reports their starts and exits."""

    def __init__(
        self, command: Sequence[str], settings: Settings, stopping: Stopping, tell: Callable[[str], None]
    ) -> None:
        options = {APP_VARIABLE: settings.app, URL_VARIABLE: settings.url}
        self._environment = {**os.environ, **{name: value for name, value in options.items() if value is not None}}
        self._command = command
        self._stopping = stopping
        self._tell = tell
        self._alive: set[asyncio.subprocess.Process] = set()

    async def run(self, processes: int, message: str, seconds: float) -> int:
        """Keeps the processes alive until asked to stop, then prints `message`; returns 0 if all stopped cleanly.

        A process that has not stopped after `seconds` is killed, since a blocked event loop never reads the request.
        """
        with _pipe() as (held, let_go):
            async with asyncio.TaskGroup() as group:
                places = [group.create_task(self._keep(held)) for _ in range(processes)]
                await self._stopping.asked()
                self._tell(message)
                let_go()
                _, late = await asyncio.wait(places, timeout=seconds)
                if late:
                    self.kill()
                    plural = "" if len(late) == 1 else "es"
                    self._tell(
                        f"Killed {len(late)} process{plural} that did not stop. Others will continue their runs."
                    )
        return Exit.DONE if all(place.result() for place in places) else Exit.FAILED

    def kill(self) -> None:
        """Kills all processes."""
        for process in self._alive:
            if process.returncode is None:
                process.kill()

    async def _keep(self, held: int) -> bool:
        """Runs one process after the other until asked to stop; returns whether the last one stopped cleanly."""
        clock = asyncio.get_running_loop().time
        pause = FIRST_PAUSE_SECONDS
        while True:
            began = clock()
            code, end = await self._one(held)
            if self._stopping.signum is not None:
                return code == Exit.DONE
            if clock() - began >= LIVED_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            self._tell(f"{end}; restarting in {pause:g} s.")
            try:
                await asyncio.wait_for(self._stopping.asked(), pause)
            except TimeoutError:
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                return True

    async def _one(self, held: int) -> tuple[int, str]:
        """Runs one process to its end; returns its exit code and a description of its end."""
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
            return Exit.FAILED, f"Cannot start a process ({error.strerror})"
        self._alive.add(process)
        self._tell(f"Process {process.pid} started.")
        code = await process.wait()
        self._alive.discard(process)
        return code, f"Process {process.pid} {_end_of(code)}"


@contextmanager
def _pipe() -> Iterator[tuple[int, Callable[[], None]]]:
    """The end of the pipe that the processes hold, and a function that closes the other one."""
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
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
