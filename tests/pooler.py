"""A pooler in transaction mode between tests and their server: pgbouncer where there is one, or a stand-in of our own.

The stand-in does to a client what pgbouncer before 1.21 does: it refuses startup parameters that it does not know,
lends a connection to the server for one transaction only, and takes LISTEN without ever delivering a notification.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import secrets
import shutil
import socket
import struct
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KINDS = ("stand-in", "pgbouncer") if shutil.which("pgbouncer") else ("stand-in",)
"""The poolers there are on this machine."""
SERVER_CONNECTIONS = 3
"""Fewer than a store's own connections, so that two transactions in a row rarely meet the same one."""
_KNOWN = {
    "application_name",
    "client_encoding",
    "database",
    "datestyle",
    "standard_conforming_strings",
    "timezone",
    "user",
}
_VERSION, _CANCEL, _ENCRYPTED = 196608, 80877102, {80877103, 80877104}
_OWED_AN_ANSWER = b"QS"
_HEAD = struct.Struct("!cI")
_PAIR = struct.Struct("!II")


class Message(NamedTuple):
    """One message of the protocol."""

    kind: bytes
    body: bytes

    @property
    def wire(self) -> bytes:
        """As it is sent."""
        return _HEAD.pack(self.kind, len(self.body) + 4) + self.body


async def _message(reader: asyncio.StreamReader) -> Message:
    kind, size = _HEAD.unpack(await reader.readexactly(_HEAD.size))
    return Message(kind, await reader.readexactly(size - 4))


def _fatal(text: str) -> bytes:
    fields = {"S": "FATAL", "V": "FATAL", "C": "08P01", "M": text}
    return Message(b"E", b"".join(f"{name}{value}\0".encode() for name, value in fields.items()) + b"\0").wire


@dataclass(slots=True, eq=False)
class Backend:
    """A connection to the server, lent to one client after the other."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    greeting: bytes
    key: bytes


class Pooler:
    """The stand-in, as long as it is entered, on `port`."""

    def __init__(self, server_port: int, size: int = SERVER_CONNECTIONS) -> None:
        self._server_port = server_port
        self._room = asyncio.Semaphore(size)
        self._idle: list[Backend] = []
        self._sessions: dict[bytes, _Session] = {}
        self._served: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server
        self.port: int
        self.lent = 0

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for task in self._served:
            task.cancel()
        await asyncio.gather(*self._served, return_exceptions=True)
        while self._idle:
            self._idle.pop().writer.close()
        await self._listener.wait_closed()

    async def lend(self) -> Backend:
        """A connection for one transaction, as soon as one is free."""
        await self._room.acquire()
        self.lent += 1
        try:
            while self._idle:
                backend = self._idle.pop(0)
                if not backend.reader.at_eof():
                    return backend
            return await self._connected()
        except BaseException:
            self._room.release()
            raise

    def take_back(self, backend: Backend, *, clean: bool) -> None:
        """Keeps a connection for the next transaction, or ends one that was left within a transaction."""
        if clean:
            self._idle.append(backend)
        else:
            backend.writer.close()
        self._room.release()

    async def _connected(self) -> Backend:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        words = b"user\0postgres\0database\0postgres\0client_encoding\0UTF8\0\0"
        writer.write(_PAIR.pack(len(words) + 8, _VERSION) + words)
        greeting, key = b"", b""
        while (message := await _message(reader)).kind != b"Z":
            if message.kind == b"E":
                writer.close()
                raise ConnectionError(message.body.decode(errors="replace"))
            if message.kind == b"K":
                key = message.body
            else:
                greeting += message.wire
        return Backend(reader, writer, greeting, key)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._served.add(task)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                await self._greet(reader, writer)
        finally:
            self._served.discard(task)
            writer.close()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size, code = _PAIR.unpack(await reader.readexactly(_PAIR.size))
        while code in _ENCRYPTED:
            writer.write(b"N")
            size, code = _PAIR.unpack(await reader.readexactly(_PAIR.size))
        body = await reader.readexactly(size - _PAIR.size)
        if code == _CANCEL:
            await self._cancel(body)
            return
        unknown = [name for name in body.decode().split("\0")[:-2:2] if name.lower() not in _KNOWN]
        if unknown:
            writer.write(_fatal(f"unsupported startup parameter: {unknown[0]}"))
            await writer.drain()
            return
        try:
            backend = await self.lend()
        except OSError:
            writer.write(_fatal("pgbouncer cannot connect to server"))
            await writer.drain()
            return
        self.take_back(backend, clean=True)
        session = _Session(self, reader, writer)
        key = secrets.token_bytes(8)
        self._sessions[key] = session
        writer.write(backend.greeting + Message(b"K", key).wire + Message(b"Z", b"I").wire)
        try:
            await session.pass_on()
        finally:
            del self._sessions[key]

    async def _cancel(self, key: bytes) -> None:
        session = self._sessions.get(key)
        if session is not None and session.backend is not None:
            _, writer = await asyncio.open_connection("127.0.0.1", self._server_port)
            writer.write(_PAIR.pack(16, _CANCEL) + session.backend.key)
            await writer.drain()
            writer.close()


@dataclass(slots=True, eq=False)
class _Session:
    """A client, with a connection to the server only while it is within a transaction."""

    pooler: Pooler
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    backend: Backend | None = None
    owed: int = 0
    answering: asyncio.Task[None] | None = None
    ended: set[asyncio.Task[None]] = field(default_factory=set)

    async def pass_on(self) -> None:
        """Passes on what the client says, until it leaves."""
        try:
            while (message := await _message(self.reader)).kind != b"X":
                if self.backend is None:
                    self.backend = await self.pooler.lend()
                    self.answering = asyncio.create_task(self._answer(self.backend))
                self.owed += message.kind in _OWED_AN_ANSWER
                self.backend.writer.write(message.wire)
        finally:
            if self.answering is not None:
                self.answering.cancel()
                await asyncio.gather(self.answering, return_exceptions=True)
            if self.backend is not None:
                self.pooler.take_back(self.backend, clean=False)

    async def _answer(self, backend: Backend) -> None:
        """Passes on what the server says, until the transaction is over and all questions are answered."""
        try:
            while True:
                message = await _message(backend.reader)
                if message.kind != b"A":
                    self.writer.write(message.wire)
                if message.kind != b"Z":
                    continue
                self.owed -= 1
                if self.owed == 0 and message.body == b"I":
                    self.backend = None
                    self.pooler.take_back(backend, clean=True)
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            self.writer.write(_fatal("server conn crashed?"))
            self.writer.close()


class PgBouncer:
    """The real one in a process of its own, as long as it is entered, on `port`."""

    def __init__(self, server_port: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.port: int = taken.getsockname()[1]
        self._folder = Path(tempfile.mkdtemp(prefix="stepwell-pgbouncer-"))
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": SERVER_CONNECTIONS,
            "server_login_retry": 1,
        }
        lines = ["[databases]", f"* = host=127.0.0.1 port={server_port} user=postgres", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        (self._folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes]

    async def __aenter__(self) -> Self:
        user = None
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody").pw_uid
            os.chown(self._folder, user, -1)
        command = ["pgbouncer", str(self._folder / "pgbouncer.ini")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, user=user, stdout=log, stderr=log)  # noqa: ASYNC220  forks at once
        await eventually(self._is_up)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(30)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _is_up(self) -> bool:
        assert self._process.poll() is None, (self._folder / "log").read_text()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


@contextlib.asynccontextmanager
async def pooler(kind: str, server_port: int) -> AsyncIterator[int]:
    """A pooler of that kind before the server; the port it listens on."""
    async with Pooler(server_port) if kind == "stand-in" else PgBouncer(server_port) as one:
        yield one.port
