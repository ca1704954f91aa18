"""The example's service as real processes of uvicorn: killed in the middle of requests, and two workers on one file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
ORDER = {"item": "kettle", "quantity": 2, "price": "19.90"}
YES = {"approved": True, "by": "ada"}
AUTH = {"Authorization": "Bearer secret"}


class Server:
    """uvicorn on a socket file, with all its processes in a group of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "socket"
        self.held = folder / "held"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Starts the processes."""
        self.socket.unlink(missing_ok=True)
        self.held.unlink(missing_ok=True)
        places = {"SHOP_DB": f"sqlite:///{self.folder}/shop.db", "EFFECTS": f"{self.folder}/effects.log"}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", "tests.ext.held_orders:app", "--uds", str(self.socket), *options],
                cwd=ROOT,
                env={**os.environ, **places, "HELD": str(self.held)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Ends all processes of the group with SIGKILL."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(PATIENCE)
            self._process = None

    async def stop(self) -> int:
        """Asks the server to leave, and waits until it has."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        process = self._process
        await eventually(lambda: process.poll() is not None)
        return process.returncode

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client of the server, for as long as it lives."""
        transport = httpx.AsyncHTTPTransport(uds=str(self.socket))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://shop", headers=AUTH, timeout=PATIENCE
        ) as client:
            yield client

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The response to a request, which is repeated until there is a server that answers it."""

        async def answered() -> httpx.Response | None:
            try:
                async with self.client() as client:
                    return await client.request(method, path, **options)
            except httpx.TransportError:
                return None

        return await eventually(answered)

    async def killed_in(self, hold: str, path: str, key: str, body: Any) -> None:
        """Sends a request, and kills the server when it has come so far."""
        headers = {"Idempotency-Key": key, "x-hold": hold}
        await self.ask("GET", "/docs")
        async with self.client() as client:
            request = asyncio.create_task(client.post(path, json=body, headers=headers))
            await eventually(self.held.exists)
            self.kill()
            with pytest.raises(httpx.TransportError):
                await request

    async def ended(self, run_id: str) -> dict[str, Any]:
        """The run as its stream of events shows its end."""

        async def end() -> dict[str, Any] | None:
            response = await self.ask("GET", f"/orders/{run_id}/events")
            last = response.text.rstrip("\n").split("\n\n")[-1].split("\n")
            return json.loads(last[1].removeprefix("data: ")) if last[0] == "event: end" else None

        return await eventually(end)

    def effects(self) -> dict[str, dict[str, set[str]]]:
        """The keys with which each run did each thing."""
        done: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for line in (self.folder / "effects.log").read_text(encoding="utf-8").splitlines():
            run_id, what, key, _ = line.split()
            done[run_id][what].add(key)
        return done


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that is not started yet, in a folder with a short name: the path of a socket is limited."""
    folder = Path(tempfile.mkdtemp(prefix="sw"))
    made = Server(folder)
    yield made
    made.kill()
    shutil.rmtree(folder)


async def test_a_server_killed_in_the_middle_of_requests_loses_nothing_and_does_nothing_twice(server: Server) -> None:
    server.start()
    await server.killed_in("after", "/orders/order", "one", ORDER)
    server.start()
    started = await server.ask("POST", "/orders/order", json=ORDER, headers={"Idempotency-Key": "one"})
    assert (started.status_code, started.json()["created"]) == (200, False), "its start was durable"
    lost = await server.ask("POST", "/orders/order", json={**ORDER, "quantity": 3}, headers={"Idempotency-Key": "one"})
    assert lost.status_code == 422
    run_id = started.json()["run_id"]
    path = f"/orders/{run_id}/signals/approval"
    await server.killed_in("after", path, "once", YES)
    server.start()
    for _ in range(2):
        told = await server.ask("POST", path, json=YES, headers={"Idempotency-Key": "once"})
        assert told.json()["accepted"] is True
    run = await server.ended(run_id)
    assert run["status"] == "completed"
    assert (run["results"]["charge"], run["results"]["approval"], run["unread_signals"]) == ("39.80", YES, {})
    done = server.effects()
    assert {what: len(keys) for what, keys in done[run_id].items()} == {"reserve": 1, "charge": 1, "ship": 1}
    assert len(done) == 1
    await server.killed_in("before", "/orders/order", "two", ORDER)
    server.start()
    assert (
        await server.ask("POST", "/orders/order", json=ORDER, headers={"Idempotency-Key": "two"})
    ).status_code == 202
    assert await server.stop() == -signal.SIGTERM


async def test_two_workers_of_uvicorn_share_a_file_and_one_of_them_is_killed(server: Server) -> None:
    server.start("--workers", "2")
    orders = 12
    starts = [
        server.ask(
            "POST", "/orders/order", json={**ORDER, "quantity": number + 1}, headers={"Idempotency-Key": f"{number}"}
        )
        for number in range(orders)
        for _ in range(2)
    ]
    found = await asyncio.gather(*starts)
    runs = {response.json()["run_id"] for response in found}
    assert sorted(response.status_code for response in found) == [200] * orders + [202] * orders
    assert len(runs) == orders

    def pids() -> set[int]:
        lines = (server.folder / "effects.log").read_text(encoding="utf-8").splitlines()
        return {int(line.split()[-1]) for line in lines}

    await eventually(lambda: sum("charge" in done for done in server.effects().values()) == orders)
    os.kill(max(pids()), signal.SIGKILL)
    answers = await asyncio.gather(
        *(
            server.ask("POST", f"/orders/{run_id}/signals/approval", json=YES, headers={"Idempotency-Key": "yes"})
            for run_id in runs
        )
    )
    assert {answer.status_code for answer in answers} == {202}
    ends = await asyncio.gather(*(server.ended(run_id) for run_id in runs))
    assert {(end["status"], str(end["unread_signals"])) for end in ends} == {("completed", "{}")}
    for done in server.effects().values():
        assert {what: len(keys) for what, keys in done.items()} == {"reserve": 1, "charge": 1, "ship": 1}
    assert len(server.effects()) == orders
