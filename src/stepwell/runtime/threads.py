"""The threads in which plain handlers run: few, daemonic, and counted when a handler does not let go of one."""

from __future__ import annotations

import asyncio
import contextvars
import queue
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell.runtime.protocol import Runtime


class ClosedError(Exception):
    """The worker stops: no handler begins any more."""


@final
class Returned(NamedTuple):
    """What a function gave, or else what it raised: handed on as a value, so that no raised type has a meaning here."""

    value: Any
    error: BaseException | None = None


@dataclass(slots=True, eq=False)
class Ticket:
    """One call in a thread; `started` once a thread took it, in the loop's seconds."""

    call: Callable[[], Any]
    future: asyncio.Future[Returned]
    context: contextvars.Context
    started: float | None = None
    abandoned: bool = False
    ended: bool = False
    over: asyncio.Future[None] | None = None
    """Done once it has ended, where its end is waited for."""


class Threads:
    """At most `limit` threads, started when they are needed.

    Where there is no real time there are no real threads: another kind of runtime hands out and serves in its own way.
    """

    def __init__(self, runtime: Runtime, limit: int) -> None:
        self._runtime = runtime
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self._ended: deque[tuple[Ticket, Returned]] = deque()
        self._is_told = False
        self._running = 0
        self._idle = 0
        self._abandoned: list[Ticket] = []

    @property
    def is_full_of_stuck(self) -> bool:
        """Whether every thread is held by a handler whose time is over."""
        self._abandoned = [ticket for ticket in self._abandoned if not ticket.ended]
        return len(self._abandoned) >= self._limit

    def start(self, call: Callable[[], Any], context: contextvars.Context | None = None) -> Ticket:
        """Has the call run in a thread, in that context or a copy of the current one."""
        ticket = Ticket(call, self._loop.create_future(), contextvars.copy_context() if context is None else context)
        self._hand_out(ticket)
        return ticket

    def abandon(self, ticket: Ticket) -> None:
        """Drops what the call will give: its time is over, or its run is not ours any more."""
        ticket.abandoned = True
        if ticket.started is not None and not ticket.ended:
            self._abandoned.append(ticket)

    def turn_away(self) -> None:
        """Gives up, with a ClosedError, the calls that wait for a thread."""
        with suppress(queue.Empty):
            while True:
                ticket = self._waiting.get_nowait()
                if ticket is not None:
                    ticket.abandoned = True
                    if not ticket.future.done():
                        ticket.future.set_exception(ClosedError())

    def close(self) -> None:
        """Ends the threads as they become free."""
        for _ in range(self._running):
            self._waiting.put(None)

    def _hand_out(self, ticket: Ticket) -> None:
        """Has a thread serve the ticket."""
        if self._idle <= self._waiting.qsize() and self._running < self._limit:
            self._runtime.start_thread(self._main, "stepwell-handler")
            self._running += 1  # only now: a thread that the system does not grant makes no call
        self._waiting.put(ticket)

    def _main(self) -> None:
        while True:
            self._idle += 1
            ticket = self._waiting.get()
            self._idle -= 1
            if ticket is None:
                return
            self._serve(ticket)

    def _serve(self, ticket: Ticket) -> None:
        if not ticket.abandoned:
            self._end(ticket, self._call(ticket))

    def _call(self, ticket: Ticket) -> Returned:
        """Makes the call: what it gave, or what it raised."""
        ticket.started = self._loop.time()
        try:
            return Returned(ticket.context.run(ticket.call))
        except BaseException as raised:  # noqa: BLE001  a handler may raise anything, and it is its failure
            return Returned(None, raised)

    def _end(self, ticket: Ticket, returned: Returned) -> None:
        """Hands over to the event loop what the call gave or raised."""
        ticket.ended = True
        self._ended.append((ticket, returned))
        if not self._is_told:  # looked at after the append: a hand-over that is under way takes this one, too
            self._is_told = True
            try:
                self._loop.call_soon_threadsafe(self._hand_over)
            except RuntimeError:  # the loop was closed: nothing is left to be told
                return

    def _hand_over(self) -> None:
        self._is_told = False
        while self._ended:
            ticket, returned = self._ended.popleft()
            if ticket.over is not None and not ticket.over.done():
                ticket.over.set_result(None)
            if not ticket.abandoned and not ticket.future.done():
                ticket.future.set_result(returned)  # a value, not an exception: no future takes a StopIteration
