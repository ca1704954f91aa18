"""The log of `run` and `worker` on stderr: as text for people, or as a JSON object a line for machines."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from stepwell.cli import text
from stepwell.cli.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

F = TypeVar("F", bound="Callable[..., Any] | click.Command")

LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("text", "json")
TEXT = "%(asctime)s %(levelname)-7s %(message)s"
LONGEST_VALUE = 10_000
_NO_FACTS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def log_options(command: F) -> F:
    """Give a command `--log-format` and `--log-level`."""
    formatted = click.option(
        "--log-format",
        type=click.Choice(FORMATS),
        help="Log as text, or as one JSON object a line.",
        expose_value=False,
        callback=_keep_format,
    )
    level = click.option(
        "--log-level",
        type=click.Choice(LEVELS, case_sensitive=False),
        help="Log what is as grave as this, or graver.",
        expose_value=False,
        callback=_keep_level,
    )
    return formatted(level(command))


@contextmanager
def logging_to_stderr(settings: Settings, level: int, *, of_runs: bool = True) -> Iterator[None]:
    """Let stepwell's log be seen while entered: as the options say, else from that level on.

    Without options, logging that the app has set up is left alone, and with `of_runs=False` what becomes of runs is not
    logged: whoever follows one run is shown it.
    """
    root, own, runs = logging.getLogger(), logging.getLogger("stepwell"), logging.getLogger("stepwell.run")
    chosen = settings.log_format is not None or settings.log_level is not None
    if not chosen and (root.handlers or own.handlers):
        yield
        return
    handler = _StderrHandler()
    handler.setFormatter(JsonLines() if settings.log_format == "json" else logging.Formatter(TEXT))
    before = [(log, log.level, log.propagate) for log in (own, runs)]
    at = own if root.handlers else root
    at.addHandler(handler)
    own.propagate = at is root
    own.setLevel(level if settings.log_level is None else settings.log_level.upper())
    if not chosen and not of_runs:
        runs.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        at.removeHandler(handler)
        for log, was, propagated in before:
            log.setLevel(was)
            log.propagate = propagated


class JsonLines(logging.Formatter):
    """A record as one line of JSON: time, level, logger, message, what it has as `extra`, and its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        told: dict[str, Any] = {
            "time": text.iso(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        told |= {name: _plain(value) for name, value in vars(record).items() if name not in _NO_FACTS}
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            told["traceback"] = record.exc_text
        return json.dumps(told)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what stderr is at that moment, so that the live progress stays whole below what is logged."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        """Where it writes."""
        return sys.stderr

    @stream.setter
    def stream(self, _given: TextIO) -> None:
        """It is always stderr."""


def _plain(value: object) -> Any:
    try:
        return text.plain(value)
    except TypeError:
        return repr(value)[:LONGEST_VALUE]


def _keep_format(context: click.Context, _option: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Settings).log_format = value


def _keep_level(context: click.Context, _option: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Settings).log_level = value.lower()
