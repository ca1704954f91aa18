"""A TCP proxy before one PostgreSQL server that cuts, delays and loses on command; no test lives here.

It reads the messages of the protocol, so that a fault hits one statement and not some bytes. Each hold and each lost
answer hits the next statement whose text has the words, once; a test awaits it by name, and need not guess when.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit, urlunsplit

from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from types import TracebackType

Mode = Literal["normal", "refusing", "half-open"]
_ENCRYPTION_REQUESTS = (80877103, 80877104)


class Fault:
    """What happens to one statement of one client: its point is reached, and in the end the server has answered it."""

    def __init__(self, words: str, *, holds: bool) -> None:
        self.words = words
        self.holds = holds
        self.answer = b""
        """The server's messages in answer to it, whether or not the client got them."""
        self.hit = asyncio.Event()
        self.let = asyncio.Event()
        self.over = asyncio.Event()
        self.link: _Link | None = None

    async def reached(self) -> None:
        """Waits until the client has sent the statement."""
        await asyncio.wait_for(self.hit.wait(), PATIENCE)

    def abandon(self) -> None:
        """Cuts the client off, who may try again; what it sent stays held."""
        assert self.link is not None
        self.link.leave()

    def release(self) -> None:
        """Lets a held statement and all behind it go to the server, even if the client is gone."""
        self.let.set()

    async def answered(self) -> None:
        """Waits until the server has answered the statement, or has gone."""
        await asyncio.wait_for(self.over.wait(), PATIENCE)

    async def released(self) -> None:
        """Lets a held statement go, and waits until the server has answered it."""
        self.release()
        await self.answered()


class Proxy:
    """An async context manager: while it is entered, clients of `url(...)` reach the server through it."""

    def __init__(self, dsn: str) -> None:
        parts = urlsplit(dsn)
        self._server = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._mode: Mode = "normal"
        self._faults: list[Fault] = []
        self._links: dict[_Link, asyncio.Task[None]] = {}
        self._listener: asyncio.Server

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self._listener.close()
        tasks = list(self._links.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._listener.wait_closed()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        """How many connections it keeps, those of clients that are gone with something held among them."""
        return len(self._links)

    def url(self, url: str) -> str:
        """The same URL, schema and all, by way of the proxy."""
        parts = urlsplit(url)
        user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        return urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{self.port}"))

    def hold(self, words: str = "") -> Fault:
        """Holds the next statement that has the words, and all that its client sends after it, until released."""
        return self._add(Fault(words, holds=True))

    def drop_answer(self, words: str = "") -> Fault:
        """The next statement that has the words is answered to nobody; then its client is cut off."""
        return self._add(Fault(words, holds=False))

    def cut(self) -> None:
        """Cuts all connections now, on both sides; what was held is lost."""
        for link, task in list(self._links.items()):
            link.cut()
            task.cancel()

    def half_open(self) -> None:
        """From now on nothing passes, and nobody is told; connections of this time never come back to life."""
        self._mode = "half-open"
        for link in self._links:
            link.is_deaf = True

    def refuse(self) -> None:
        """From now on new connections are refused; those that exist go on."""
        self._mode = "refusing"

    def heal(self) -> None:
        """New connections are as good as the server again, which hears of those that were given up meanwhile."""
        self._mode = "normal"
        for link in self._links:
            if link.is_deaf:
                link.leave_server()
        self._faults.clear()

    def fault_of(self, text: str) -> Fault | None:
        """The fault that hits a statement with this text; it is used up."""
        for fault in self._faults:
            if fault.words in text:
                self._faults.remove(fault)
                return fault
        return None

    def _add(self, fault: Fault) -> Fault:
        self._faults.append(fault)
        return fault

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode == "refusing":
            _reset(writer)
            return
        link = _Link(self, reader, writer, is_deaf=self._mode == "half-open")
        self._links[link] = task = asyncio.create_task(link.carry(*self._server))
        task.add_done_callback(lambda _: self._links.pop(link))


class _Link:
    """One client's connection and the server's that belongs to it."""

    def __init__(
        self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_deaf: bool
    ) -> None:
        self.is_deaf = is_deaf
        self._proxy = proxy
        self._client = writer
        self._asks = reader
        self._server: asyncio.StreamWriter | None = None
        self._statements: dict[bytes, str] = {}
        self._fault: Fault | None = None
        self._sent = False

    async def carry(self, host: str, port: int) -> None:
        """Carries messages both ways until both sides are done."""
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                greeting = await self._greeting()
                answers, self._server = await asyncio.open_connection(host, port)
                self._server.write(greeting)
                back = asyncio.create_task(self._answer(answers))
                try:
                    await self._ask()
                    await back
                finally:
                    back.cancel()
        finally:
            if self._fault is not None:
                self._fault.over.set()
            self.cut()

    def leave(self) -> None:
        """Ends the client's connection at once."""
        _reset(self._client)

    def leave_server(self) -> None:
        """Ends the server's connection at once, as its next keepalive would."""
        if self._server is not None:
            _reset(self._server)

    def cut(self) -> None:
        """Ends both connections at once."""
        for writer in (self._client, self._server):
            if writer is not None:
                _reset(writer)

    async def _greeting(self) -> bytes:
        """The client's first message, after it was told that nothing here is encrypted."""
        while True:
            head = await self._asks.readexactly(8)
            length, code = struct.unpack("!II", head)
            body = await self._asks.readexactly(length - 8)
            if self.is_deaf:
                await self._asks.read()
                raise asyncio.IncompleteReadError(b"", None)
            if code not in _ENCRYPTION_REQUESTS:
                return head + body
            self._client.write(b"N")

    async def _ask(self) -> None:
        assert self._server is not None
        held: list[bytes] = []
        letting: asyncio.Task[None] | None = None
        try:
            while True:
                message = await _message(self._asks)
                if (letting is None or letting.done()) and (fault := self._hit(message)) is not None:
                    self._fault, fault.link = fault, self
                    fault.hit.set()
                    self._sent = not fault.holds
                    if fault.holds:
                        letting = asyncio.create_task(self._let(fault, held))
                if letting is not None and not letting.done():
                    held.append(message)
                elif not self.is_deaf:
                    self._server.write(message)
        except (OSError, asyncio.IncompleteReadError):
            if letting is not None:
                await letting
            if not self.is_deaf and self._server.can_write_eof():
                self._server.write_eof()
        finally:
            if letting is not None:
                letting.cancel()

    async def _let(self, fault: Fault, held: list[bytes]) -> None:
        """Sends the server what was held, once it is released."""
        await fault.let.wait()
        assert self._server is not None
        self._sent = True
        if not self.is_deaf:
            self._server.write(b"".join(held))

    async def _answer(self, answers: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                message = await _message(answers)
                fault = self._fault if self._sent else None
                is_lost = fault is not None and not fault.holds
                if not self.is_deaf and not is_lost and not self._client.is_closing():
                    self._client.write(message)
                if fault is not None:
                    self._note(fault, message)
                    if is_lost and self._fault is None:
                        self.cut()
        if not self.is_deaf:
            self._client.close()

    def _note(self, fault: Fault, message: bytes) -> None:
        """Keeps a message of the answer to a statement; the one that says "ready" is its end."""
        fault.answer += message
        if message[:1] == b"Z":
            fault.over.set()
            self._fault, self._sent = None, False

    def _hit(self, message: bytes) -> Fault | None:
        """The fault that this message meets: one that has a statement run, by its text or by its name."""
        kind, body = message[:1], message[5:]
        if kind == b"P":
            name, text, _ = body.split(b"\0", 2)
            self._statements[name] = text.decode()
        elif kind == b"B":
            _, name, _ = body.split(b"\0", 2)
            return self._proxy.fault_of(self._statements.get(name, ""))
        elif kind == b"Q":
            return self._proxy.fault_of(body.rstrip(b"\0").decode())
        return None


async def _message(reader: asyncio.StreamReader) -> bytes:
    """One whole message."""
    head = await reader.readexactly(5)
    return head + await reader.readexactly(int.from_bytes(head[1:], "big") - 4)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection as a machine does that is gone: at once, with what is on the way lost."""
    taken: socket.socket | None = writer.get_extra_info("socket")
    if taken is not None and taken.fileno() >= 0:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
