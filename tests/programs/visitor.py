"""A process that comes to a store and goes: opens it, does what it is told on stdin, line by line, and leaves.

`look` lists the runs, `start` starts one, `recover` frees the runs of the dead, `try` starts one and says "busy" as
soon as it has to wait for another writer. Each answer is a line. At the end of stdin it leaves, and says "left".
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from stepwell import Durable, durable
from stepwell.runtime.system import SystemRuntime
from tests.api.running_fixtures import echo


def say(what: object) -> None:
    """Write a line."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


RETRY_SECONDS = 0.0005
"""How long the store waits before it tries again for another writer's turn to end; its other pauses are longer."""


class Impatient(SystemRuntime):
    """Says when it has to wait for another writer."""

    told = True

    def pause(self, seconds: float) -> None:
        """Says so once."""
        if not self.told and seconds == RETRY_SECONDS:
            self.told = True
            say("busy")
        super().pause(seconds)


async def answer(app: Durable, runtime: Impatient, line: str) -> Any:
    """What one line comes to."""
    match line:
        case "look":
            return len(await app.list(limit=10_000))
        case "start":
            return (await app.start("say", 1)).run_id
        case "recover":
            return await app.recover()
        case "try":
            runtime.told = False
            return (await app.start("say", 1)).run_id
        case _:
            raise ValueError(line)


async def main() -> None:
    """Come, answer, leave."""
    runtime = Impatient()
    async with Durable(sys.argv[1], [durable("say").step("say", echo)], runtime=runtime) as app:
        say("open")
        for line in iter(sys.stdin.readline, ""):
            say(await answer(app, runtime, line.strip()))
    say("left")


asyncio.run(main())
