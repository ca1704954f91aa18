"""Plain handlers whose time is over and which still run in their threads: nothing can stop them.

A compensator of what may have happened begins when they have ended, or their time was over twice: until then, what it
undoes may still be done. This is known only in the process in which they run.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from stepwell.store.logs import logger

if TYPE_CHECKING:
    from stepwell.core.decisions import Call
    from stepwell.runtime.threads import Ticket

_log = logger("stepwell.run")


class _Late(NamedTuple):
    """A call in a thread, and the instant of the loop's clock until which it is waited for."""

    ticket: Ticket
    until: float


class Lingering:
    """Those of one worker, by what they work for."""

    def __init__(self) -> None:
        self._late: dict[tuple[str, str, str], list[_Late]] = {}

    def add(self, call: Call, ticket: Ticket, seconds: float) -> None:
        """Notes that the call's handler still runs, and is to be waited for so long."""
        loop = asyncio.get_running_loop()
        key = _key(call)
        late = _Late(ticket, loop.time() + seconds)
        ticket.over = loop.create_future()
        ticket.over.add_done_callback(lambda _: self._forget(key, late))
        self._late.setdefault(key, []).append(late)

    async def ended(self, call: Call) -> None:
        """Waits until the handlers of what the call undoes have ended, or were waited for as long as they may be."""
        loop = asyncio.get_running_loop()
        for ticket, until in tuple(self._late.get(_key(call), ())):
            left = until - loop.time()
            if not ticket.ended and left > 0 and ticket.over is not None:
                await asyncio.wait({ticket.over}, timeout=left)
            if not ticket.ended:
                text = (
                    "Run %s: the handler of %s still runs in its thread, after twice its time; it is undone beside it."
                )
                _log.warning(text, call.run_id, call.step)

    def _forget(self, key: tuple[str, str, str], late: _Late) -> None:
        left = self._late[key]
        left.remove(late)
        if not left:
            del self._late[key]


def _key(call: Call) -> tuple[str, str, str]:
    return call.run_id, call.node, call.item
