"""Who touches a connection, and when: one thread for a file, the caller itself for memory.

Operations that are waiting when the connection is free share a transaction (group commit). When one of them fails, all
are rolled back and run again, each in a transaction of its own, so that no operation fails for another's error. An
operation may therefore run twice, and must change nothing but the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from stepwell.errors import DefinitionError, StoreUnavailableError
from stepwell.store.records import LEFT
from stepwell.store.sqlite.connection import Location, in_transaction, is_data_error, unavailable
from stepwell.store.sqlite.file import FileConnection
from stepwell.store.sqlite.forks import INSIDE_SQLITE

if TYPE_CHECKING:
    from stepwell.runtime.protocol import Runtime
    from stepwell.store.sqlite.guard import Identity

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]
_TOGETHER = 64
_YIELD_AFTER = 0.010
_YIELD_FOR = 0.001
_STAYS_ACTIVE = 1.0


class TransactionQueue(Protocol):
    """Runs operations on one connection, one after the other."""

    def run(self, operation: Operation[T], *, blames_rows: bool = False) -> Awaitable[T]:
        """The operation's result, once its transaction has been committed.

        Raises StoreUnavailableError, and DefinitionError for what cannot be kept; where one of many rows may be to
        blame, SQLite's own error.
        """

    def close(self) -> Awaitable[None]:
        """Ends after what was asked before."""


class InCaller:
    """Operations on a shared in-memory connection, run at once by the caller."""

    def __init__(self, location: Location, connection: sqlite3.Connection) -> None:
        self._location = location
        self._connection = connection
        self._is_closed = False

    async def run(self, operation: Operation[T], *, blames_rows: bool = False) -> T:
        """The operation's result, once its transaction has been committed."""
        if self._is_closed:
            raise StoreUnavailableError(self._location.url, LEFT)
        try:
            return in_transaction(self._connection, lambda: operation(self._connection), _never, write=True)
        except (sqlite3.Error, OverflowError) as error:
            if blames_rows and is_data_error(error):
                raise
            raise _translated(self._location, error) from error

    async def close(self) -> None:
        """Runs nothing more; the connection is its owner's."""
        self._is_closed = True


@dataclass(slots=True)
class _Turn:
    operation: Operation[Any]
    future: asyncio.Future[Any]
    blames_rows: bool
    result: Any = None
    error: BaseException | None = None


class InThread:
    """Operations on a connection of its own, run by one thread; those that wait together share a transaction."""

    def __init__(self, location: Location, runtime: Runtime, *, write: bool, like: Identity | None = None) -> None:
        self._location = location
        self._runtime = runtime
        self._write = write
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[_Turn | None] = queue.SimpleQueue()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._version = -1
        self._others_until = 0.0
        self._is_closed = False
        self._looked_at = 0.0
        self._file = FileConnection(location, runtime.pause, read_only=not write, like=like)
        self._connection = self._file.connection
        runtime.start_thread(self._main, f"stepwell-sqlite-{'writer' if write else 'reader'}")

    @property
    def identity(self) -> Identity | None:
        """Which file it is."""
        return self._file.identity

    def beside(self) -> InThread:
        """Another one, that reads the same file; raises StoreUnavailableError if that is not in its place."""
        self._file.check()  # SQLite would say "disk I/O error" of a file whose log is gone
        return InThread(self._location, self._runtime, write=False, like=self.identity)

    def run(self, operation: Operation[T], *, blames_rows: bool = False) -> asyncio.Future[T]:
        """The operation's result, once its transaction has been committed."""
        if self._is_closed:
            raise StoreUnavailableError(self._location.url, LEFT)
        turn = _Turn(operation, self._loop.create_future(), blames_rows)
        self._waiting.put(turn)
        return turn.future

    async def close(self) -> None:
        """Ends after what was asked before; by itself, if the wait for it is cancelled."""
        if not self._is_closed:
            self._is_closed = True
            self._waiting.put(None)
        await asyncio.wait({self._ended})  # a bare await would cancel the future, and it could not be waited for again

    def _main(self) -> None:
        going = True
        while going:
            turns, going = self._next_turns()
            if turns:
                self._take(turns)
                self._tell(_resolve, turns)
                self._yield()
        self._file.close()
        self._tell(_end, self._ended)

    def _next_turns(self) -> tuple[list[_Turn], bool]:
        turns: list[_Turn] = []
        first = self._waiting.get()
        while first is not None:
            turns.append(first)
            if len(turns) == _TOGETHER:
                return turns, True
            try:
                first = self._waiting.get_nowait()
            except queue.Empty:
                return turns, True
        return turns, False

    def _take(self, turns: list[_Turn]) -> None:
        try:
            self._transact(turns)
        except BaseException as error:  # noqa: BLE001  it is raised in the caller
            if len(turns) == 1:
                hidden = isinstance(error, sqlite3.Error | OverflowError) and not turns[0].blames_rows
                turns[0].error = _translated(self._location, error) if hidden else error
                return
            for turn in turns:
                self._take([turn])

    def _transact(self, turns: list[_Turn]) -> None:
        def work() -> None:
            for turn in turns:
                turn.error = None
                turn.result = turn.operation(self._connection)

        try:
            self._file.run(work, write=self._write)
        except sqlite3.Error as error:
            if is_data_error(error):
                raise  # the caller knows which row it is
            raise unavailable(self._location, error) from error

    def _yield(self) -> None:
        """Lets other processes' small writes in: a writer that commits back to back would starve them."""
        if not self._write:
            return
        now = self._runtime.monotonic()
        if now - self._looked_at < _YIELD_AFTER:
            return
        self._looked_at = now
        try:
            with INSIDE_SQLITE:
                version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:  # the file was damaged: the next operation tells it, if this thread lives
            return
        if version != self._version:
            self._version, self._others_until = version, now + _STAYS_ACTIVE
        if now < self._others_until:
            self._runtime.pause(_YIELD_FOR)

    def _tell(self, what: Callable[[Any], None], value: object) -> None:
        try:
            self._loop.call_soon_threadsafe(what, value)
        except RuntimeError:  # the loop was closed without leaving the app: there is no caller left
            return


class OpenedLate:
    """Operations on a connection of its own, opened by the first of them: who asks nothing pays for no thread."""

    def __init__(self, location: Location, opened: Callable[[], InThread]) -> None:
        self._location = location
        self._opened = opened
        self._turns: InThread | None = None
        self._is_closed = False

    def run(self, operation: Operation[T], *, blames_rows: bool = False) -> asyncio.Future[T]:
        """The operation's result, once its transaction has been committed."""
        if self._turns is None:
            if self._is_closed:  # by a call that was under way when the store was closed: nothing would close it again
                raise StoreUnavailableError(self._location.url, LEFT)
            self._turns = self._opened()
        return self._turns.run(operation, blames_rows=blames_rows)

    async def close(self) -> None:
        """Ends after what was asked before; from now on nothing is opened."""
        self._is_closed = True
        if self._turns is not None:
            await self._turns.close()


async def in_thread(runtime: Runtime, what: Callable[[], None], name: str) -> None:
    """Runs it in a thread of its own: the event loop's default executor may be full of what users gave it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def main() -> None:
        failed: BaseException | None = None
        try:
            what()
        except BaseException as error:  # noqa: BLE001  it is raised in the caller
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop was closed: there is no caller left
            loop.call_soon_threadsafe(tell, failed)

    runtime.start_thread(main, name)
    await done


def _resolve(turns: list[_Turn]) -> None:
    for turn in turns:
        if turn.future.done():
            continue
        if turn.error is None:
            turn.future.set_result(turn.result)
        else:
            turn.future.set_exception(turn.error)


def _end(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def _never(seconds: float) -> None:
    raise AssertionError(f"an in-memory store is never busy, not even for {seconds} s")


def _translated(location: Location, error: BaseException) -> Exception:
    if is_data_error(error):
        return DefinitionError(f"The store {location.url} cannot keep what it was given: {error}.")
    return unavailable(location, error)
