"""One life of a worker process, which ends as by SIGKILL: whatever began in it stands still for good, at any await.

What begins in a life's context belongs to it, and so does what that begins. Each step of it first looks whether the
life goes on. Nothing is cancelled at the death, so no `finally` of a handler runs, as none would; only after the probe
has looked is what was left behind thawed and cancelled, so that the garbage collector finds nothing. A plain handler
that is in its thread at that moment cannot be stopped: it runs to its end before the next life begins.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterator

_LIFE: contextvars.ContextVar[Life | None] = contextvars.ContextVar("stepwell_testing_life", default=None)
_LOGGERS = ("stepwell.run", "stepwell.worker", "stepwell.store")
_ROUNDS = 20
_ROUND_SECONDS = 0.5


class DeadError(BaseException):
    """Ends a plain function of a life that is over; it is not logged."""


class Life:
    """A worker's process, alive until `die`; `on_death` is called once, on the event loop."""

    def __init__(self, on_death: Callable[[], None]) -> None:
        self.is_over: bool = False
        self._on_death = on_death
        self._loop = asyncio.get_running_loop()
        self._cleared = False
        self._belongings: set[asyncio.Task[Any]] = set()

    def begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs the coroutine in this life."""
        context = contextvars.copy_context()
        context.run(_LIFE.set, self)
        return self._loop.create_task(work, context=context)

    def die(self) -> None:
        """Ends the life: none of its coroutines continues. Can be called from any thread."""
        if not self.is_over:
            self.is_over = True
            self._loop.call_soon_threadsafe(self._on_death)

    async def die_here(self) -> NoReturn:
        """Dies, and never returns to the caller."""
        self.die()
        await self.stand_still()
        raise asyncio.CancelledError

    async def stand_still(self) -> None:
        """Waits until the remains of this life are cleared away."""
        while not self._cleared:
            with suppress(asyncio.CancelledError):
                await self._loop.create_future()

    def die_plainly(self) -> NoReturn:
        """Dies, in a handler's thread."""
        self.die()
        raise DeadError

    async def clear_away(self) -> None:
        """Ends what the dead left behind; a handler that swallows every cancellation is left to itself."""
        self.is_over, self._cleared = True, True
        with _silence_of_the_cleared():
            for _ in range(_ROUNDS):
                for one in tuple(self._belongings):
                    one.cancel()
                if not self._belongings:
                    return
                await asyncio.wait(tuple(self._belongings), timeout=_ROUND_SECONDS)

    def owns(self, one: asyncio.Task[Any], work: Coroutine[Any, Any, Any]) -> None:
        """Remembers what began in it; the work of one that was cancelled before its first step is closed unbegun."""
        self._belongings.add(one)
        one.add_done_callback(self._forget)
        one.add_done_callback(lambda _: work.close())

    def _forget(self, one: asyncio.Task[Any]) -> None:
        self._belongings.discard(one)
        if not one.cancelled():
            one.exception()

    @property
    def goes_on(self) -> bool:
        """Whether what belongs to it may take a step."""
        return self._cleared or not self.is_over


@contextmanager
def _silence_of_the_cleared() -> Iterator[None]:
    """Drops what a life that is cleared away would log of its cancellation: a process that was killed logs nothing."""

    def is_said(_record: logging.LogRecord) -> bool:
        life = _LIFE.get()
        return life is None or not life._cleared

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for one in loggers:
        one.addFilter(is_said)
    try:
        yield
    finally:
        for one in loggers:
            one.removeFilter(is_said)


async def _held(life: Life, work: Coroutine[Any, Any, Any]) -> Any:
    """The coroutine, which goes on only while this life does."""
    return await _Held(life, work)


class _Held:
    """Drives a coroutine step by step, as long as its life goes on."""

    __slots__ = ("_life", "_work")

    def __init__(self, life: Life, work: Coroutine[Any, Any, Any]) -> None:
        self._life = life
        self._work = work

    def __await__(self) -> Generator[Any, Any, Any]:
        life, work = self._life, self._work
        value: Any = None
        error: BaseException | None = None
        try:
            while True:
                if not life.goes_on:
                    yield from _cancellation_of(life).__await__()
                    error = asyncio.CancelledError()
                waits_for = work.send(value) if error is None else work.throw(error)
                value, error = None, None
                try:
                    value = yield waits_for
                except GeneratorExit:
                    work.close()
                    raise
                except BaseException as raised:  # noqa: BLE001  whatever it is, it is meant for the coroutine
                    error = raised
        except StopIteration as stop:
            return stop.value


async def _cancellation_of(life: Life) -> None:
    await life.stand_still()


@contextmanager
def lives() -> Iterator[None]:
    """While entered, what begins in a life's context belongs to it."""
    loop = asyncio.get_running_loop()
    before: Any = loop.get_task_factory()

    def make(here: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
        context: contextvars.Context | None = options.get("context")
        life = _LIFE.get() if context is None else context.get(_LIFE)
        held = work if life is None else _held(life, work)
        made = asyncio.Task(held, loop=here, **options) if before is None else before(here, held, **options)
        if life is not None:
            life.owns(made, work)
        return made

    loop.set_task_factory(make)
    try:
        yield
    finally:
        loop.set_task_factory(before)
