"""A server by its name: resolved although the event loop's executor is busy, checked against its certificate."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from stepwell import Durable, StoreUnavailableError, durable
from stepwell.runtime.system import SystemRuntime
from stepwell.store.postgres.resolving import ResolvingLoop
from tests.postgres import dsn, fresh_url
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NAME = "localhost"
_ENCRYPT = (80877103).to_bytes(4)
_CERTIFY = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -addext subjectAltName=DNS:{name}"


@asynccontextmanager
async def full_executor() -> AsyncIterator[None]:
    """The event loop's default executor has no thread to spare."""
    let = threading.Event()
    executor = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(executor)
    busy = asyncio.gather(*(asyncio.to_thread(let.wait) for _ in range(3)))
    try:
        yield
    finally:
        let.set()
        await busy


def certificate_of(folder: Path, name: str) -> Path:
    """A file with a key and a certificate of that name, signed by itself."""
    file = folder / f"{name}.pem"
    command = _CERTIFY.format(name=name).split()
    subprocess.run([*command, "-keyout", file.with_suffix(".key"), "-out", file], check=True, capture_output=True)
    return file


@asynccontextmanager
async def encrypted(certificate: Path) -> AsyncIterator[int]:
    """The port of a server that speaks TLS with this certificate, before the tests' own, which may not know it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    context.set_alpn_protocols(["postgresql"])
    target = urlsplit(dsn())
    pumps: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        pumps.add(task)
        try:
            assert (await reader.readexactly(8))[4:] == _ENCRYPT
            writer.write(b"S")
            await writer.start_tls(context)
            there, back = await asyncio.open_connection(target.hostname, target.port)
            try:
                await asyncio.gather(pump(reader, back), pump(there, writer))
            finally:
                back.close()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            pumps.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(pumps):
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Passes on what comes, until nothing more comes."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


def url_of(host: str, port: int, certificate: Path) -> str:
    """A store that nobody has used, encrypted, whose name is to be checked."""
    parts = urlsplit(fresh_url())
    checked = f"{parts.query}&sslmode=verify-full&sslrootcert={certificate}"
    return urlunsplit(parts._replace(netloc=f"postgres@{host}:{port}", query=checked))


async def test_a_name_that_the_certificate_has_is_accepted_while_the_executor_is_full(tmp_path: Path) -> None:
    flow, certificate = durable("flow").step("one", lambda ctx: 1), certificate_of(tmp_path, NAME)
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(encrypted(certificate))
        await stack.enter_async_context(full_executor())
        await stack.enter_async_context(asyncio.timeout(PATIENCE))
        async with Durable(url_of(NAME, port, certificate), [flow]) as app, app.worker():
            assert await app.result((await app.start(flow)).run_id) == {"one": 1}


@pytest.mark.parametrize(("name", "host"), [("other.example", NAME), (NAME, "127.0.0.1")])
async def test_a_name_that_the_certificate_does_not_have_is_refused(tmp_path: Path, name: str, host: str) -> None:
    certificate = certificate_of(tmp_path, name)
    async with encrypted(certificate) as port, full_executor(), asyncio.timeout(PATIENCE):
        with pytest.raises(StoreUnavailableError, match="certificate"):
            await Durable(url_of(host, port, certificate)).__aenter__()


async def test_lost_connections_to_a_name_are_made_anew_while_the_executor_is_full() -> None:
    flow = durable("flow").step("one", lambda ctx: 1)
    url = fresh_url().replace("127.0.0.1", NAME)
    async with Durable(url, [flow]) as app, app.worker(), full_executor(), asyncio.timeout(PATIENCE):
        connection = await asyncpg.connect(dsn())
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'stepwell'"
        )
        await connection.close()
        assert await app.result((await app.start(flow)).run_id) == {"one": 1}


async def test_an_unknown_name_is_unavailable_by_name() -> None:
    with pytest.raises(StoreUnavailableError, match=r"no-such-host\.invalid"):
        await Durable("postgresql://no-such-host.invalid/shop").__aenter__()


async def test_the_addresses_of_a_name_are_tried_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    there = socket.create_server(("127.0.0.1", 0))
    port = there.getsockname()[1]
    asked = socket.getaddrinfo

    def two(host: str, *given: Any, **more: Any) -> list[Any]:
        if host != "two.example":
            return asked(host, *given, **more)
        if more.get("flags"):
            raise socket.gaierror
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    loop = ResolvingLoop(asyncio.get_running_loop(), SystemRuntime(), 5)
    transport, _ = await loop.create_connection(asyncio.Protocol, "two.example", port)
    assert transport.get_extra_info("peername") == ("127.0.0.1", port)
    transport.close()
    there.close()
