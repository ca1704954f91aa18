"""Starts a run of each named workflow, prints its id once it was acknowledged, and kills itself with SIGKILL."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.programs import processes


async def main(folder: Path, names: list[str]) -> None:
    """Start, print, die: nothing is closed and nothing is left in good order."""
    async with processes.client(folder) as app:
        for name in names:
            started = await app.start(name, key=f"key-{name}")
            sys.stdout.write(started.run_id + "\n")
            sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
