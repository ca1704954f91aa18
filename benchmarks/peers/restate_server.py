"""Restate: its server with a data folder of its own, and a service of its Python SDK behind granian.

Its defaults (fsync included) but for four partitions instead of 24, for two cores, and no telemetry.
The server is the npm package `@restatedev/restate-server`, found beside the peers' virtual environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STEPS_PER_RUN = 10
WARM_UP = 5
PARTITIONS = 4
CONNECTIONS = 32
POLL_SECONDS = 0.01
PATIENCE_SECONDS = 120
CONFIG = """
disable-telemetry = true
default-num-partitions = {partitions}
log-filter = "error"
bind-address = "127.0.0.1:{node}"
advertised-address = "http://127.0.0.1:{node}/"
listen-mode = "tcp"
[ingress]
bind-address = "127.0.0.1:{ingress}"
[admin]
bind-address = "127.0.0.1:{admin}"
disable-web-ui = true
"""

aiohttp: Any = importlib.import_module("aiohttp")


def server_binary() -> Path | None:
    """The server of the npm package, if it is installed beside the peers' virtual environment."""
    found = sorted(Path(sys.prefix).glob("node_modules/@restatedev/restate-server-*/bin/restate-server"))
    return found[0] if found else None


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Restate:
    """A running server and its service, as a client sees them."""

    def __init__(self, client: Any, ingress: int, service: int) -> None:
        self._client = client
        self._ingress = f"http://127.0.0.1:{ingress}"
        self._service = f"http://127.0.0.1:{service}"

    async def call(self, handler: str, words: Any, *, send: bool = False) -> Any:
        """What a handler returns, or at once that it was accepted."""
        async with self._client.post(f"{self._ingress}/work/{handler}{'/send' * send}", json=words) as answer:
            return await answer.json()

    async def resolve(self, awakeable: str) -> None:
        """Answers who waits."""
        async with self._client.post(f"{self._ingress}/restate/awakeables/{awakeable}/resolve", json=1):
            pass

    async def ask(self, path: str) -> Any:
        """What the service's process says of itself."""
        async with self._client.get(f"{self._service}/{path}") as answer:
            return await answer.json()

    async def until(self, path: str, count: int) -> None:
        """Waits until that many have ended, or wait."""
        deadline = time.perf_counter() + PATIENCE_SECONDS
        while True:
            found = await self.ask(path)
            if (found if isinstance(found, int) else len(found)) >= count:
                return
            assert time.perf_counter() < deadline, f"{found} of {count} after {PATIENCE_SECONDS} s"
            await asyncio.sleep(POLL_SECONDS)


@contextlib.contextmanager
def _process(*command: str, cwd: str | None = None) -> Any:
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet, cwd=cwd, start_new_session=True)
    try:
        yield process
    finally:
        # What it stored is not needed any more, and an orderly end takes ten seconds. granian has a process of its own
        # for the service, which would stay: all of the group end.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.asynccontextmanager
async def _running() -> AsyncIterator[Restate]:
    binary = server_binary()
    assert binary is not None
    node, ingress, admin, service = _free_ports(4)
    with tempfile.TemporaryDirectory(prefix="stepwell-restate-") as folder, contextlib.ExitStack() as stack:
        config = Path(folder) / "restate.toml"
        config.write_text(CONFIG.format(partitions=PARTITIONS, node=node, ingress=ingress, admin=admin))
        stack.enter_context(_process(str(binary), "-c", str(config), "--base-dir", folder, "--no-logo", cwd=folder))
        granian = (
            sys.executable,
            "-m",
            "granian",
            "--interface",
            "asgi",
            "--host",
            "127.0.0.1",
            "--port",
            str(service),
        )
        stack.enter_context(_process(*granian, "--no-ws", "benchmarks.peers.restate_service:app", cwd=str(Path.cwd())))
        timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector, raise_for_status=True) as client:
            await _registered(client, admin, service)
            yield Restate(client, ingress, service)


async def _registered(client: Any, admin: int, service: int) -> None:
    deadline = time.perf_counter() + PATIENCE_SECONDS
    while True:
        deployment = {"uri": f"http://127.0.0.1:{service}"}
        with contextlib.suppress(aiohttp.ClientError):
            async with client.post(f"http://127.0.0.1:{admin}/deployments", json=deployment):
                return
        assert time.perf_counter() < deadline, "Restate did not register the service."
        await asyncio.sleep(0.1)


async def drained(peer_runs: int, result_bytes: int = 0) -> dict[str, float]:
    """Steps a second of handlers that have all been called and begin at once, until the last has ended."""
    wanted = {"steps": STEPS_PER_RUN, "gated": 1, "result_bytes": result_bytes}
    async with _running() as restate:
        await asyncio.gather(*(restate.call("steps", wanted, send=True) for _ in range(peer_runs)))
        began = time.perf_counter()
        await restate.ask("open")
        await restate.until("ended", peer_runs)
        return {"steps_per_second": peer_runs * STEPS_PER_RUN / (time.perf_counter() - began)}


async def alone(peer_runs: int, steps: int) -> dict[str, float]:
    """Milliseconds of a call through the ingress, one after the other."""
    times = await _times(peer_runs, "steps", {"steps": steps})
    return {"p50_ms": statistics.median(times), "p99_ms": sorted(times)[int(len(times) * 0.99)]}


async def parallel(peer_runs: int, entries: int) -> dict[str, float]:
    """Milliseconds of a call that gathers so many steps."""
    return {"p50_ms": statistics.median(await _times(peer_runs, "fan", entries))}


async def _times(runs: int, handler: str, words: Any) -> list[float]:
    times = []
    async with _running() as restate:
        for _ in range(WARM_UP + runs):
            began = time.perf_counter()
            await restate.call(handler, words)
            times.append((time.perf_counter() - began) * 1_000)
    return times[WARM_UP:]


async def many(runs: int, peer_runs: int) -> dict[str, float]:
    """Seconds from the first call to the last result, as for all `runs`."""
    return await _called_to_results(runs, peer_runs, "steps")


async def children(runs: int, peer_runs: int) -> dict[str, float]:
    """The same of handlers that call another and wait for it."""
    return await _called_to_results(runs, peer_runs, "parent")


async def _called_to_results(runs: int, peer_runs: int, handler: str) -> dict[str, float]:
    async with _running() as restate:
        await asyncio.gather(*(restate.call(handler, {"steps": 1}) for _ in range(CONNECTIONS)))
        began = time.perf_counter()
        await asyncio.gather(*(restate.call(handler, {"steps": 1}) for _ in range(peer_runs)))
        return {"seconds": (time.perf_counter() - began) * runs / peer_runs}


async def signals(peer_runs: int) -> dict[str, float]:
    """Awakeables resolved a second through the ingress, at once."""
    async with _running() as restate:
        await asyncio.gather(*(restate.call("wait", number, send=True) for number in range(peer_runs)))
        await restate.until("awakeables", peer_runs)
        names = await restate.ask("awakeables")
        began = time.perf_counter()
        await asyncio.gather(*(restate.resolve(name) for name in names))
        return {"signals_per_second": peer_runs / (time.perf_counter() - began)}
