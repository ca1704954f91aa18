"""A worker process for tests: handlers that log what they do, wait to be let, or kill their own process.

`python -m tests.programs.gated FOLDER` works on `FOLDER/store.db` until its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell import Abort, Durable, durable

if TYPE_CHECKING:
    from stepwell import Context, Workflow

POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the handlers' own log."""

    event: str
    step: str
    pid: int
    run_id: str
    attempt: int
    key: str


class HandlersLog:
    """An append-only file that handlers of all processes write, each line whole, and tests read."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "handlers.log"

    def write(self, event: str, ctx: Context) -> None:
        """Append one line; it is in the kernel's hands when this returns, so a SIGKILL does not lose it."""
        facts = [event, ctx.step, os.getpid(), ctx.run_id, ctx.attempt, ctx.idempotency_key]
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, json.dumps(facts).encode() + b"\n")
        finally:
            os.close(descriptor)

    def lines(self, event: str | None = None, *, pid: int | None = None) -> list[Line]:
        """The lines so far, in the order they were written."""
        if not self.path.exists():
            return []
        every = [Line(*json.loads(line)) for line in self.path.read_text().splitlines()]
        return [line for line in every if event in (None, line.event) and pid in (None, line.pid)]


def workflows(folder: Path) -> list[Workflow]:
    """`gated`: first, work (waits to be let), last. `poison`: first (undone in the end), kill (its own process).

    `regret`: first and last (undone in the end), kill (its own process, when it is undone), then a step that fails.
    `asleep` and `nap` rest for an hour and for two seconds between first and last.
    """
    log = HandlersLog(folder)

    async def note(ctx: Context) -> int:
        log.write("begin", ctx)
        return os.getpid()

    async def work(ctx: Context) -> dict[str, Any]:
        log.write("begin", ctx)
        while not (folder / "let").exists() and not (folder / f"let-{os.getpid()}").exists():
            try:
                await asyncio.sleep(POLL_SECONDS)
            except asyncio.CancelledError:
                log.write("canceled", ctx)  # and goes on: whatever it returns in the end must not be written
        log.write("end", ctx)
        return {"attempt": ctx.attempt, "key": ctx.idempotency_key, "pid": os.getpid()}

    async def kill(ctx: Context) -> None:
        log.write("begin", ctx)
        os.kill(os.getpid(), signal.SIGKILL)

    async def forget(ctx: Context) -> None:
        log.write("undo", ctx)

    async def kill_undoing(ctx: Context) -> None:
        log.write("undo", ctx)
        os.kill(os.getpid(), signal.SIGKILL)

    async def fail(ctx: Context) -> None:
        raise Abort(ctx.step)

    return [
        durable("gated").step("first", note).step("work", work, max_retries=0).step("last", note),
        durable("poison").step("first", note, compensate=forget).step("kill", kill).step("last", note),
        durable("regret")
        .step("first", note, compensate=forget)
        .step("kill", note, compensate=kill_undoing)
        .step("last", note, compensate=forget)
        .step("fail", fail),
        durable("asleep").step("first", note).sleep("rest", 3600).step("last", note),
        durable("nap").step("first", note).sleep("rest", 2).step("last", note),
    ]


def app() -> Durable:
    """What the command line loads: the workflows, in the folder and on the store that the environment names."""
    return Durable(os.environ["STEPWELL_URL"], workflows(Path(os.environ["STEPWELL_TEST_FOLDER"])))


async def main(folder: Path, options: dict[str, Any]) -> None:
    """Work until standard input ends."""
    async with Durable(f"sqlite:///{folder / 'store.db'}", workflows(folder), **options) as app, app.worker(grace=0):
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
