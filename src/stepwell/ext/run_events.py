"""The events of a run as a stream of server-sent events, for any number of readers at the price of one.

The readers of a run share its looks: whichever finds the newest one older than `LOOK_EVERY` takes the next, under a
lock, and the others get it. No look belongs to a background task, so none outlives its readers; if the reader that
looks is cancelled, the next one looks. A look reads the run's state before its journal: a state that has ended is the
last one, so the journal that is read after it is whole, and `end` follows every entry.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from stepwell.core.statuses import ENDED
from stepwell.errors import JournalError, RunNotFoundError, StoreUnavailableError
from stepwell.ext.http_access import encoded, entry_as_json, run_as_json
from stepwell.reading.secrets import hidden_in_entries, hidden_in_run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from stepwell.app import Durable
    from stepwell.reading.records import RunSnapshot

LOOK_EVERY = 0.5
"""Seconds between two looks at a run."""
QUIET_LOOKS = 30
"""Looks without news after which a comment is sent, so that proxies keep the connection and its end is noticed."""
MOST_READERS = 1_000
"""Streams that are open at once."""
_MOST_SEQ = 2**31
_KEEP_ALIVE = b": nothing new\n\n"
_SHOWN = ("run_id", "status", "current_node", "awaiting_signals", "wake_at", "damaged", "updated_at")
_NEWS = _SHOWN[:-1]


class TooManyReadersError(Exception):
    """As many streams are open as may be."""


class RunEvents:
    """The streams of an app's runs."""

    def __init__(self, shop: Durable) -> None:
        self._shop = shop
        self._watched: dict[str, _Watched] = {}
        self._readers = 0

    def follow(self, run: RunSnapshot, after: int) -> AsyncGenerator[bytes, None]:
        """The events of a run from the entry behind `after` on, each as the text of a server-sent event.

        Raises TooManyReadersError.
        """
        if self._readers >= MOST_READERS:
            raise TooManyReadersError
        return self._follow(run, after)

    async def _follow(self, run: RunSnapshot, after: int) -> AsyncGenerator[bytes, None]:
        watched = self._watched.setdefault(run.run_id, _Watched(self._shop, run))
        watched.readers += 1
        self._readers += 1
        try:
            async for event in _events(watched, after):
                yield event
        finally:
            self._readers -= 1
            watched.readers -= 1
            if not watched.readers and self._watched.get(run.run_id) is watched:
                del self._watched[run.run_id]


class _Watched:
    """A run that has readers: what the newest look has seen, and how many looks there were."""

    def __init__(self, shop: Durable, run: RunSnapshot) -> None:
        self.readers = 0
        self.looks = 0
        self.run: RunSnapshot = run
        self.entries: list[bytes] = []
        self.is_gone = False
        self.shop = shop
        self._lock = asyncio.Lock()
        self._looked_at = float("-inf")
        self._read_until: object = None

    async def look(self, seen: int) -> None:
        """Returns when there is a look behind the one that was seen."""
        async with self._lock:
            if self.looks != seen:
                return
            now = asyncio.get_running_loop().time
            await asyncio.sleep(max(self._looked_at + LOOK_EVERY - now(), 0))
            try:
                await self._read()
            except RunNotFoundError:
                self.is_gone = True
            except StoreUnavailableError:
                pass  # the next look may find it back; until then nothing is new
            finally:
                self._looked_at = now()
            self.looks += 1

    async def _read(self) -> None:
        run = await self.shop.status(self.run.run_id)
        changed = (run.updated_at, run.status, run.current_step, run.attempt)
        if changed != self._read_until:
            try:
                entries = hidden_in_entries(await self.shop.journal(run.run_id), run.workflow_name, self.shop)
            except JournalError:  # `damaged` of the run says so
                entries = []
            for seq, entry in enumerate(entries[len(self.entries) :], len(self.entries) + 1):
                self.entries.append(b"event: entry\nid: %d\ndata: %b\n\n" % (seq, encoded(entry_as_json(seq, entry))))
            self._read_until = changed
        self.run = run


async def _events(watched: _Watched, after: int) -> AsyncIterator[bytes]:
    seen, quiet = watched.looks, 0
    shown: tuple[object, ...] = ()
    if not seen:
        await watched.look(seen)
    while not watched.is_gone:
        seen, run, entries = watched.looks, watched.run, watched.entries
        quiet += 1
        while after < len(entries):
            yield entries[after]
            after, quiet = after + 1, 0
        news = tuple(getattr(run, name) for name in _NEWS)
        if news != shown:
            shown, quiet = news, 0
            yield _event("status", {name: getattr(run, name) for name in _SHOWN})
        if run.status in ENDED:
            yield _event("end", run_as_json(hidden_in_run(run, watched.shop)))
            return
        if quiet >= QUIET_LOOKS:
            quiet = 0
            yield _KEEP_ALIVE
        await watched.look(seen)


def seq_of(given: str | None) -> int:
    """Returns the number of the last entry that a reader has. Raises ValueError for anything else."""
    if given is None or not given:
        return 0
    if not given.isascii() or not given.isdigit() or len(given) > len(str(_MOST_SEQ)):
        raise ValueError("Last-Event-ID must be the number of a journal entry.")
    return int(given)


def _event(name: str, value: object) -> bytes:
    # One line: JSON escapes the ends of lines, so nothing in a value begins another field.
    return b"event: %b\ndata: %b\n\n" % (name.encode(), encoded(value))
