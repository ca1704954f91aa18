"""The log of `run` and `worker` on stderr: as text, or as one JSON object per line."""

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
    """Add `--log-format` and `--log-level` to a command."""
    formatted = click.option(
        "--log-format",
        type=click.Choice(FORMATS),
        help="Log as text, or as one JSON object per line.",
        expose_value=False,
        callback=_keep_format,
    )
    level = click.option(
        "--log-level",
        type=click.Choice(LEVELS, case_sensitive=False),
        help="The lowest level to log.",
        expose_value=False,
        callback=_keep_level,
    )
    return formatted(level(command))


@contextmanager
def logging_to_stderr(settings: Settings, level: int, *, of_runs: bool = True) -> Iterator[None]:
    """Write stepwell's log to stderr while entered, as the options say, or else from `level` on.

    Without options, logging that the app has configured does not change. With `of_runs=False`, messages about runs are
    not logged, because the progress shows them.
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
    """Formats a record as one line of JSON: time, level, logger, message, its `extra`, and its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line of JSON."""
        fields: dict[str, Any] = {
            "time": text.iso(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {name: _plain(value) for name, value in vars(record).items() if name not in _NO_FACTS}
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            fields["traceback"] = record.exc_text
        return json.dumps(fields)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the current `sys.stderr`, so that the live progress stays intact below the log."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        """The current stderr."""
        return sys.stderr

    @stream.setter
    def stream(self, _given: TextIO) -> None:
        """Ignored: the stream is always stderr."""


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
