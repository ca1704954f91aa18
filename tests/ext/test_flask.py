"""Flask: the calls in views, what errors answer, and a real server that is killed in the middle of requests."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask

from stepwell import Abort, Context, Durable, durable
from stepwell.ext.flask import Stepwell, run_response, stepwell_of_app
from tests.waiting import PATIENCE, POLL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
ORDERS, CLIENTS = 24, 4


def say(ctx: Context) -> Any:
    if ctx.input == "bad":
        raise Abort("out of stock")
    return ctx.input


@pytest.fixture
def runs() -> Iterator[Stepwell]:
    """What the views of an app call, closed in the end."""
    runs = Stepwell(Flask("shop"), Durable("sqlite://", [durable("say").step("word", say)]))
    yield runs
    runs.close()


def served(runs: Stepwell, view: Callable[[], Any]) -> Any:
    """The response to a request that the view answers."""
    web = Flask("shop")
    runs.init_app(web)
    web.add_url_rule("/", "view", view)
    return web.test_client().get("/")


def test_a_view_calls_without_await(runs: Stepwell) -> None:
    def view() -> Any:
        assert stepwell_of_app() is runs
        with runs.worker():
            return runs.run("say", "hello", timeout=PATIENCE)

    assert served(runs, view).json == {"word": "hello"}


def test_a_run_is_answered_as_json_without_tracebacks(runs: Stepwell) -> None:
    run_id = runs.start("say", "bad").run_id
    assert served(runs, lambda: run_response(runs.status(run_id))).json["status"] == "pending"
    with runs.worker(), pytest.raises(Exception, match="out of stock"):
        runs.result(run_id, timeout=PATIENCE)
    answered = served(runs, lambda: run_response(runs.status(run_id), 203))
    assert answered.status_code == 203
    assert answered.json["error"] == {"node": "word", "type": "Abort", "message": "out of stock"}
    assert answered.json["finished_at"].endswith("Z")
    failed = served(runs, lambda: runs.result(run_id))
    assert (failed.status_code, failed.json["code"]) == (409, "run_failed")


def test_errors_that_leave_a_view_are_answered(runs: Stepwell, caplog: pytest.LogCaptureFixture) -> None:
    unknown = served(runs, lambda: run_response(runs.status("nothing")))
    assert (unknown.status_code, unknown.json["code"]) == (404, "run_not_found")
    refused = served(runs, lambda: runs.start("say", {1, 2}))
    assert (refused.status_code, refused.json["code"]) == (422, "payload")
    assert served(runs, lambda: runs.start("say", key="")).status_code == 422
    assert caplog.records == []
    runs.close()
    closed = served(runs, runs.list)
    assert (closed.status_code, closed.json["code"]) == (500, "durable")
    assert "not open" not in closed.text
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_nothing_is_opened_before_the_first_call(tmp_path: Path) -> None:
    async def imported() -> Stepwell:
        return Stepwell(None, Durable(f"sqlite:///{tmp_path / 'store.db'}"))

    runs = asyncio.run(imported())
    assert list(tmp_path.iterdir()) == []
    assert runs.list() == []
    runs.close()


def test_an_import_without_flask_says_what_to_install() -> None:
    program = "import sys; sys.modules['flask'] = None\nimport stepwell.ext.flask"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.stderr.splitlines()[-1].endswith("stepwell.ext.flask needs flask: pip install 'stepwell[flask]'.")


class Processes:
    """The example, served by gunicorn with two processes forked from one that has imported it, and a worker."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Starts both."""
        options = ["--preload", "--workers", "2", "--threads", "8", "--bind", "unix:server.sock"]
        self._begin("-m", "gunicorn", *options, "flask_orders:web")
        self._begin("-m", "stepwell.cli", "--app", "flask_orders:shop", "worker")

    def kill(self) -> None:
        """Ends all at once with SIGKILL, each with what it has forked."""
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._running:
            process.wait(PATIENCE)
        self._running.clear()

    def _begin(self, *command: str) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT / "examples"), "HOME": str(self._folder)}
        with (self._folder / "log.txt").open("ab") as log:
            self._running.append(
                subprocess.Popen(
                    [sys.executable, *command],
                    cwd=self._folder,
                    env=environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )


class Connection(http.client.HTTPConnection):
    """A connection to the server's socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("shop", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        """Connects, or leaves nothing open."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(self._path))


class Shop:
    """A client that repeats a request until it is answered."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "server.sock"
        self.lost = 0

    def ask(self, method: str, path: str, body: Any = None, key: str = "") -> tuple[int, Any]:
        """The status and the JSON of the answer, at the latest after some patience."""
        deadline = time.monotonic() + PATIENCE
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        while True:
            with contextlib.closing(Connection(self._path)) as connection:
                try:
                    connection.request(method, path, json.dumps(body), headers)
                    answer = connection.getresponse()
                    text = answer.read()
                except (OSError, http.client.HTTPException):
                    self.lost += 1
                    assert time.monotonic() < deadline
                    time.sleep(POLL_SECONDS)
                else:
                    return answer.status, json.loads(text) if text.startswith(b"{") else text

    def order(self, number: int) -> str:
        """Orders something, and gives the order's id."""
        status, answer = self.ask("POST", "/orders", {"item": f"kettle {number}"}, f"order-{number}")
        assert status in {200, 202}, answer
        run_id: str = answer["id"]
        return run_id


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="gunicorn forks")
def test_a_server_and_a_worker_that_are_killed_amid_requests_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    processes, shop = Processes(tmp_path), Shop(tmp_path)
    processes.start()
    try:
        waited_for = shop.order(0)
        answered = threading.Semaphore(0)

        def order(number: int) -> str:
            run_id = shop.order(number)
            answered.release()
            return run_id

        with ThreadPoolExecutor(CLIENTS + 1) as pool:
            waiting = pool.submit(shop.ask, "GET", f"/orders/{waited_for}/results")
            ordered = pool.map(order, range(1, ORDERS))
            for _ in range(ORDERS // 4):
                assert answered.acquire(timeout=PATIENCE)
            processes.kill()
            processes.start()
            ids = [waited_for, *ordered]
            for run_id in ids:
                assert shop.ask("POST", f"/orders/{run_id}/approval") == (200, {"accepted": True})
            assert waiting.result(PATIENCE)[1]["ship"] == "kettle 0 is on its way"
        for number, run_id in enumerate(ids):
            assert shop.order(number) == run_id
            assert shop.ask("GET", f"/orders/{run_id}/results")[1]["ship"] == f"kettle {number} is on its way"
        assert shop.ask("POST", "/orders", {"item": "anvil"}, "order-1")[0] == 422
    finally:
        processes.kill()
    assert shop.lost > 0
    assert len(set(ids)) == ORDERS
    with contextlib.closing(sqlite3.connect(tmp_path / "orders.db")) as store:
        assert store.execute("SELECT count(*) FROM stepwell_runs").fetchone() == (ORDERS,)
    with contextlib.closing(sqlite3.connect(tmp_path / "bank.db")) as bank:
        paid = [item for (item,) in bank.execute("SELECT item FROM payments")]
    assert sorted(paid) == sorted(f"kettle {number}" for number in range(ORDERS))
