"""Tests of stepwell in Django: settings, models, admin and command, and a real server that is killed in a request.

Each runs in processes of their own, since Django is set up once for a process (`tests/ext/django_checks.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.programs.gated import HandlersLog
from tests.programs.processes import ROOT
from tests.rival import own_database
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from pathlib import Path

SETTINGS = "tests.programs.django_settings"
ON_A_FILE = ("atomic", "models", "admin", "command", "settings_of_the_app", "orm")
ON_POSTGRES = ("models", "admin", "outside")
"""In one process each, since to set Django up takes longer than most of them."""


@contextlib.contextmanager
def on_postgres() -> Iterator[Mapping[str, str]]:
    """The environment of a site whose database is a new one on the tests' server, and its store in a schema of it."""
    with own_database() as url:
        parts = urlsplit(url)
        database: dict[str, Any] = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": parts.path.lstrip("/"),
            "HOST": parts.hostname,
        }
        database |= {"PORT": parts.port, "USER": parts.username, "PASSWORD": parts.password or ""}
        app = {"APP": "tests.programs.django_site:make_app", "SCHEMA": "flows"}
        yield {"SITE_SETTINGS": json.dumps({"DATABASES": {"default": database}, "STEPWELL": app})}


def environment(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """That of a process of the site in the folder."""
    return {**os.environ, "SITE_FOLDER": str(folder), "DJANGO_SETTINGS_MODULE": SETTINGS, **(more or {})}


def check(names: Sequence[str], folder: Path, more: Mapping[str, str] | None = None) -> None:
    """Runs checks to their end, with warnings as errors."""
    command = [sys.executable, "-W", "error", "-m", "tests.programs.django_check", "tests.ext.django_checks", *names]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment(folder, more), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.splitlines()[-1] == f"checked {', '.join(names)}"


@pytest.mark.slow
def test_django_on_a_file(tmp_path: Path) -> None:
    check(ON_A_FILE, tmp_path)


@pytest.mark.slow
def test_django_on_postgres(tmp_path: Path) -> None:
    with on_postgres() as more:
        check(ON_POSTGRES, tmp_path, more)


def manage(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What `manage.py` says to the arguments."""
    return subprocess.run(
        [sys.executable, "-m", "django", *arguments],
        cwd=ROOT,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_manage_py_has_the_whole_command_line(tmp_path: Path) -> None:
    started = manage(tmp_path, "stepwell", "start", "approval", '{"id": 1}', "--key", "one", "--json")
    assert started.returncode == 0, started.stderr
    run_id = json.loads(started.stdout)["run_id"]
    mistaken = manage(tmp_path, "stepwell", "signal", run_id, "aproved", "--traceback")
    assert (mistaken.returncode, mistaken.stderr) == (
        2,
        "Error: No such option '--traceback'. Try 'python -m django stepwell signal --help'.\n",
    )


class Site:
    """A server and a worker of the site in a folder, each a group of processes."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "server.sock"
        self.socket.unlink(missing_ok=True)
        server = [sys.executable, "-m", "gunicorn", "--threads", "4", "--bind", f"unix:{self.socket}"]
        worker = [sys.executable, "-m", "django", "stepwell", "worker"]
        with (folder / "site.stderr").open("ab") as complaints:
            self._processes = [
                subprocess.Popen(command, cwd=ROOT, env=environment(folder), stderr=complaints, start_new_session=True)
                for command in ([*server, "django.core.wsgi:get_wsgi_application()"], worker)
            ]

    async def answer(self, key: str) -> Any:
        """The answer to a request that runs `gated` with that key; waits until the server listens."""
        await eventually(self.socket.exists)
        transport = httpx.AsyncHTTPTransport(uds=str(self.socket))
        async with httpx.AsyncClient(transport=transport, timeout=None) as client:  # noqa: S113  pytest ends what hangs
            given = await client.get("http://site/gated/", headers={"Idempotency-Key": key})
        assert given.status_code == 200, given.text
        return given.json()

    def kill(self) -> None:
        """Ends all of its processes with SIGKILL."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)


@contextlib.asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    """A site that is killed in the end."""
    running = Site(folder)
    try:
        yield running
    finally:
        running.kill()


@pytest.mark.slow
async def test_a_server_and_a_worker_that_are_killed_in_a_request_lose_nothing_and_do_nothing_twice(
    tmp_path: Path,
) -> None:
    log = HandlersLog(tmp_path)
    async with site(tmp_path) as killed:
        asked = asyncio.create_task(killed.answer("order-1"))
        await eventually(lambda: [line for line in log.lines("begin") if line.step == "work"] or asked.done())
        killed.kill()
        with pytest.raises(httpx.TransportError):
            await asked
    (tmp_path / "let").touch()
    async with site(tmp_path) as restarted:
        results = await restarted.answer("order-1")
        assert await restarted.answer("order-1") == results
    begun = [(line.step, line.key) for line in log.lines("begin")]
    assert [step for step, _ in begun] == ["first", "work", "work", "last"]
    assert begun[1] == begun[2], "the call that was interrupted comes again, with the same key"
    assert results["work"]["attempt"] == 1
    assert len({line.run_id for line in log.lines()}) == 1
