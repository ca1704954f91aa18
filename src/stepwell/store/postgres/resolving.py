"""Names of hosts, resolved in a thread of ours, and the addresses of one name, tried in turn.

asyncio resolves names in the event loop's default executor. Handlers may keep all its threads busy for as long as they
like (`asyncio.to_thread`), and then no new connection would ever be made.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell.runtime.protocol import Runtime


class ResolvingLoop:
    """An event loop as the driver uses it, which connects to names without the loop's executor.

    The driver goes on to see the name, so that `sslmode=verify-full` compares the certificate with the name, not with
    an address.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, runtime: Runtime, seconds: float) -> None:
        self.loop = loop
        self._runtime = runtime
        self._seconds = seconds
        self._asked: dict[str, asyncio.Future[list[Any]]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loop, name)

    async def create_connection(
        self, protocol_factory: Callable[[], asyncio.Protocol], host: str, port: int, **options: Any
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """A connection to the first address of the host that answers; each has its share of the time."""
        if options.get("ssl"):
            options.setdefault("server_hostname", host)
        found = await self._addresses(host)
        refusal: OSError | None = None
        for family, kind, protocol, _, address in found:
            connecting = socket.socket(family, kind, protocol)
            try:
                connecting.setblocking(False)  # noqa: FBT003  the name of the parameter is not to be given
                async with asyncio.timeout(self._seconds / len(found)):
                    await self.loop.sock_connect(connecting, (address[0], port, *address[2:]))
                return await self.loop.create_connection(protocol_factory, sock=connecting, **options)
            except OSError as error:
                connecting.close()
                refusal = error
            except BaseException:
                connecting.close()
                raise
        raise refusal or OSError(f'The host "{host}" has no address')

    async def _addresses(self, host: str) -> list[Any]:
        with suppress(OSError, UnicodeError):  # an address needs no look-up
            return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        asked = self._asked.get(host)
        if asked is None:
            asked = self._asked[host] = self.loop.create_future()
            self._runtime.start_thread(lambda: self._ask(host, asked), "stepwell-resolve")
        return await asyncio.shield(asked)  # at most one thread a name, however long its servers take

    def _ask(self, host: str, asked: asyncio.Future[list[Any]]) -> None:
        found: list[Any] = []
        failure: Exception | None = None
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            failure = error if isinstance(error, OSError) else OSError(f'"{host}" is not a name of a host')
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self.loop.call_soon_threadsafe(self._answer, host, asked, found, failure)

    def _answer(self, host: str, asked: asyncio.Future[list[Any]], found: list[Any], failure: Exception | None) -> None:
        del self._asked[host]
        if failure is None:
            asked.set_result(found)
        else:
            asked.set_exception(failure)
            asked.exception()  # the caller may have given up
