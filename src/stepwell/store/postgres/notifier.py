"""Notifications: a hint at what changed, sent apart from what changed it, and heard on the same connection.

A hint names the lanes in which runs became due, and says whether runs ended, so that only those look whom it concerns:
a worker of another lane would claim for nothing. One without words, or with words of another release, says that
anything may have changed. It is sent after its commit, by a statement of its own that no caller waits for, one at a
time: inside the commit it would halve the number of commits. It may be lost; looking now and then is the truth. Where
nothing can be heard, as through a pooler, looking is all there is: often while this process writes, and more and more
seldom while it does not.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from asyncpg.exceptions import ProgramLimitExceededError

from stepwell.errors import StoreUnavailableError
from stepwell.store.background import Lasting
from stepwell.store.logs import logger
from stepwell.store.postgres.connection import in_time
from stepwell.store.postgres.opening import DRIVER_ERRORS, Connection, CrowdedError, Opener, disconnect, unavailable
from stepwell.store.records import ANY_CHANGES, LEFT, Changes

_log = logger("stepwell.store")
_GAP_SECONDS = 0.01
"""Between two hints: who hears one looks at all that happened."""
_DEAF_SECONDS = 0.05
_DEAF_MOST_SECONDS = 1.0
"""How long to wait for a look where nothing is heard: at first, and at most."""
_LAST_SECONDS = 1.0
_ENDED = "ended"
_LONGEST_HINT = 4000
"""Characters of a hint; PostgreSQL takes twice as many, and more lanes than this has are as good as any."""


class Notifier:
    """One connection that notifies the other processes of this schema, and is notified by them."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener.to_listen()
        self._location = self._opener.location
        self._channel = f"stepwell:{self._location.schema}"
        self._runtime = opener.runtime
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._heard = asyncio.Event()
        self._hears = False
        self._news: Changes | None = None
        """What was heard and not asked for yet, where its lanes and ends are known."""
        self._to_send: Changes | None = None
        self._ringing: Lasting | None = None
        self._silent_until = 0.0 if self._location.notified else float("inf")
        self._looked_at = self._runtime.io_time() - self._runtime.tuning.trust_seconds
        self._deaf_seconds = _DEAF_SECONDS
        self._is_closed = False

    def notify(self, changes: Changes = ANY_CHANGES) -> None:
        """Notifies the other processes, soon."""
        self._to_send = changes if self._to_send is None else changes.joined(self._to_send)
        self._deaf_seconds = _DEAF_SECONDS
        if (self._ringing is None or self._ringing.is_over) and not self._is_silent and not self._is_closed:
            self._ringing = Lasting(self._send, "stepwell-notify")

    async def changed(self) -> Changes | None:
        """Waits a little for a notification; what changed by those that came, or anything: it is time to look."""
        if not self._is_silent:
            with suppress(CrowdedError):
                await self._connected()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._runtime.tuning.hear_seconds if self._hears else self._deaf_seconds):
                await self._heard.wait()
        self._deaf_seconds = min(self._deaf_seconds * 2, _DEAF_MOST_SECONDS)
        now = self._runtime.io_time()
        news, self._news = self._news, None
        self._heard.clear()
        if not self._hears or now - self._looked_at >= self._runtime.tuning.trust_seconds:
            news = ANY_CHANGES
        if news == ANY_CHANGES:
            self._looked_at = now
        return news

    async def close(self) -> None:
        """Sends what was asked for, and disconnects."""
        if self._ringing is not None:
            await asyncio.wait({self._ringing.ended}, timeout=_LAST_SECONDS)
            self._ringing.cancel()
            await asyncio.wait({self._ringing.ended})
        self._is_closed = True
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await disconnect(connection)

    def give_up(self) -> bool:
        """Does without a connection for a while, where there are too few for calls; whether there was one."""
        given_up = self._connection is not None
        self._drop()
        self._be_silent()
        return given_up

    def terminate(self) -> None:
        """Disconnects without a farewell, which may take its time."""
        self._is_closed = True
        if self._ringing is not None:
            self._ringing.cancel()
        self._drop()

    async def _send(self) -> None:
        try:
            while self._to_send is not None:
                changes, self._to_send = self._to_send, None
                connection, has_told = await self._connected()
                if not has_told:
                    await self._notify(connection, changes)
                await self._runtime.io_sleep(_GAP_SECONDS)
        except asyncio.CancelledError:  # by other code it may be, and then it begins again
            self._to_send = ANY_CHANGES
            raise
        except CrowdedError as error:
            _log.debug("No process was notified: %s", error.__cause__)
        except StoreUnavailableError as error:
            _log.debug("No process was notified: %s", error)
        except DRIVER_ERRORS as error:
            _log.debug("No process was notified: %s", error)
            self._drop()

    async def _connected(self) -> tuple[Connection, bool]:
        """The connection, and whether it was made just now, and the others were notified.

        What was said before went unheard, so that it is time to look.
        """
        async with self._connecting:
            if self._connection is not None and not self._connection.is_closed():
                return self._connection, False
            self._check_open()
            try:
                connection = await self._opener.open_if_room(synchronous_commit="off")
            except CrowdedError:
                self._be_silent()  # notifications are hints: their connection is the first to do without
                raise
            self._hears = False
            try:
                connection.add_termination_listener(self._gone)
                if not self._location.pooled:
                    await connection.add_listener(self._channel, self._hear)
                await self._notify(connection, ANY_CHANGES)
                self._check_open()  # a close meanwhile has not seen this connection
            except BaseException as error:  # given up half made, too: nothing else would close it
                connection.terminate()
                if isinstance(error, DRIVER_ERRORS):
                    raise unavailable(self._location, error) from error
                raise
            self._connection = connection
            self._hear_of(ANY_CHANGES)
            return connection, True

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreUnavailableError(self._location.safe_url, LEFT)

    async def _notify(self, connection: Connection, changes: Changes) -> None:
        with suppress(ProgramLimitExceededError):  # a full queue: others will look
            async with in_time(self._opener, connection, self._runtime.tuning.notification_seconds):
                await connection.execute("SELECT pg_notify($1, $2)", self._channel, hint_of(changes))

    def _hear(self, *notification: object) -> None:
        """One of our own tells that notifications arrive, and nothing else."""
        self._hears = True
        _, pid, _, hint = notification
        if self._connection is None or pid != self._connection.get_server_pid():
            self._hear_of(changes_of(str(hint)))

    def _gone(self, _connection: object) -> None:
        self._hear_of(ANY_CHANGES)

    def _hear_of(self, changes: Changes) -> None:
        self._news = changes if self._news is None else changes.joined(self._news)
        self._heard.set()

    @property
    def _is_silent(self) -> bool:
        return self._runtime.io_time() < self._silent_until

    def _be_silent(self) -> None:
        self._hears = False
        self._silent_until = max(self._silent_until, self._runtime.io_time() + self._runtime.tuning.crowded_out_seconds)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


def hint_of(changes: Changes) -> str:
    """The text of a notification: `ended`, and the numbers of the lanes; empty for anything."""
    if changes.lanes is None:
        return ""
    text = " ".join([*([_ENDED] if changes.ended else []), *map(str, sorted(changes.lanes))])
    return text if len(text) <= _LONGEST_HINT else ""


def changes_of(hint: str) -> Changes:
    """What such a text says."""
    words = set(hint.split())
    lanes = words - {_ENDED}
    if not words or not all(word.isdecimal() and word.isascii() for word in lanes):
        return ANY_CHANGES
    return Changes(frozenset(map(int, lanes)), _ENDED in words)
