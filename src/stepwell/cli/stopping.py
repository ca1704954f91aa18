"""Ctrl-C, SIGTERM and SIGHUP: the first one requests a clean stop, a second one (except SIGHUP) exits at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from stepwell.cli.problems import Exit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

HANGUP = getattr(signal, "SIGHUP", None)
"""Sent when the terminal is closed; does not exist on Windows."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)
SHOW_CURSOR = b"\x1b[?25h\n"


class Stopping:
    """While entered, turns signals into requests to stop, for which `asked` waits.

    It uses plain signal handlers, not those of the event loop, so that the second signal ends the process even while a
    handler blocks the loop. It calls `before_end` first. Ending at once is as safe as `kill -9`: the journal stays
    valid, and another worker continues.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.before_end: Callable[[], None] | None = None
        self._at_once = False
        self._asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        # Under `nohup` SIGHUP is ignored, and must stay so.
        if HANGUP is not None and signal.getsignal(HANGUP) is not signal.SIG_IGN:
            self._before[HANGUP] = signal.getsignal(HANGUP)

    async def asked(self) -> None:
        """Return when the first signal has arrived."""
        await self._asked.wait()

    def ask_at_end_of(self, pipe: int) -> None:
        """Request a clean stop, as the first signal does, when the other end of the pipe is closed."""

        def ask() -> None:
            self._loop.remove_reader(pipe)
            self._asked.set()

        self._loop.add_reader(pipe, ask)

    def end_at_next_signal(self) -> None:
        """Let the next signal end the process at once, even if it is the first one."""
        self._at_once = True

    @property
    def exit_code(self) -> int:
        """The exit code that shells expect from a process that a signal stopped."""
        return Exit.SIGNALED + (self.signum or 0)

    def __enter__(self) -> Self:
        for number in self._before:
            signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        if self.signum is not None and signum == HANGUP:
            return  # A closing terminal sends several: one itself, and one through the shell.
        if self._at_once:
            if self.before_end is not None:
                self.before_end()
            with suppress(OSError):  # The terminal may be gone.
                if sys.stderr.isatty():
                    os.write(2, SHOW_CURSOR)
            os._exit(Exit.SIGNALED + signum)
        self.signum = signum
        self._at_once = True
        self._loop.call_soon_threadsafe(self._asked.set)


def stopping_message(grace: float) -> str:
    """The message at the first signal."""
    return f"Stopping: handlers have {grace:g} s to finish. Repeat to stop at once."
