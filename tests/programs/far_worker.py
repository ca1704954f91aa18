"""A worker on a host of its own: its handlers log what they do, and wait until their host is let go on.

`python -m tests.programs.far_worker URL FOLDER NAME LEASE` prints its worker id, and works until its input ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stepwell import Durable, durable

if TYPE_CHECKING:
    from stepwell import Context, Workflow

CONCURRENCY = 2
POLL_SECONDS = 0.01


class Line(NamedTuple):
    """A handler began or ended a call, which nobody else made."""

    event: str
    host: str
    run_id: str
    call: str


def lines(folder: Path) -> list[Line]:
    """What handlers of all hosts logged, in order."""
    log = folder / "handlers.log"
    return [Line(*json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []


def workflows(folder: Path, host: str) -> list[Workflow]:
    """`far`: one step that ends once its host is let go on, and a second one."""

    def write(event: str, ctx: Context, call: str) -> None:
        descriptor = os.open(folder / "handlers.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, json.dumps(Line(event, host, ctx.run_id, call)).encode() + b"\n")
        finally:
            os.close(descriptor)

    async def work(ctx: Context) -> str:
        call = secrets.token_hex(6)
        write("begin", ctx, call)
        while not (folder / f"let-{host}").exists():  # noqa: ASYNC110  another process says so
            await asyncio.sleep(POLL_SECONDS)
        write("end", ctx, call)
        return call

    async def after(ctx: Context) -> str:
        result: str = ctx.results["work"]
        return result

    return [durable("far").step("work", work, max_retries=0).step("after", after, max_retries=0)]


async def main(url: str, folder: Path, host: str, lease: float) -> None:
    """Works until standard input ends."""
    async with (
        Durable(url, workflows(folder, host), lease=lease) as app,
        app.worker(concurrency=CONCURRENCY) as worker,
    ):
        print(worker.worker_id, flush=True)  # noqa: T201  whoever started it reads this
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])))
