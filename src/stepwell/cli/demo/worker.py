"""The demo's worker process, which the demo starts and kills.

Called as `python -m stepwell.cli.demo.worker FOLDER`, it works until its standard input is closed: so it never outlives
the demo, however that ends.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from stepwell import StoreUnavailableError
from stepwell.cli.demo.audit import open_app
from stepwell.cli.demo.script import Place, Script

_PAUSE_SECONDS = 0.2


async def work(place: Place, script: Script) -> None:
    """Is a worker until standard input is closed."""
    loop = asyncio.get_running_loop()
    closed = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(closed), sys.stdin)
    handlers = script.concurrency
    while True:
        try:
            async with open_app(place, script) as app, app.worker(concurrency=handlers, threads=handlers):
                await closed.read()
                return
        except StoreUnavailableError:
            if not script.disturbances or closed.at_eof():
                raise
        await asyncio.sleep(_PAUSE_SECONDS)  # its store may be starting just now, too


if __name__ == "__main__":
    home = Place(Path(sys.argv[1]))
    asyncio.run(work(home, Script.read(home)))
