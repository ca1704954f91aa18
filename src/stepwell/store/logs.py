"""Loggers whose use never fails: what a handler or a filter of the user's raises is felt by no run and no beat.

Python's own handlers write their errors to stderr and go on; filters, and handlers of other packages, need not.
"""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_FRAMES = 4
"""From the logger to the line that a record names: three of this module, then its caller."""


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """Logs to a logger; an error of that goes to stderr, as those of Python's own handlers do."""

    def log(self, level: int, msg: object, *args: object, **how: Any) -> None:
        """Logs a message; all other methods do it by this one."""
        if self.isEnabledFor(level):
            _try(lambda: self.logger.log(level, msg, *args, **{"stacklevel": _FRAMES, **how}))

    def handle(self, record: logging.LogRecord) -> None:
        """Hands a record that was made elsewhere to the logger."""
        _try(lambda: self.logger.handle(record))


def logger(name: str) -> SafeLogger:
    """The logger of that name."""
    return SafeLogger(logging.getLogger(name))


def _try(log: Callable[[], None]) -> None:
    try:
        log()
    except Exception:  # noqa: BLE001  whatever it is, it is no run's
        if logging.raiseExceptions:
            with suppress(Exception):  # there may be no stderr, or it is full
                traceback.print_exc(file=sys.stderr)
