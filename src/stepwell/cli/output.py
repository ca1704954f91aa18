"""Output: JSON or lines on stdout, notes on stderr, rich text in the terminal's width."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO

import click

from stepwell.cli.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.text import Text

UNLIMITED = 100_000
"""The width if the output is not a terminal: nothing is truncated."""


def print_json(given: Any, out: TextIO | None = None) -> None:
    """Print a return value as one JSON document on stdout: in one line, or indented at a terminal."""
    out = out or sys.stdout
    click.echo(json.dumps(plain(given), ensure_ascii=not _is_utf8(out), indent=2 if out.isatty() else None), file=out)


def say(message: str) -> None:
    """Print a line for people on stdout."""
    click.echo(message)


def remark(message: str) -> None:
    """Print a line for people on stderr, because it is not part of the result."""
    click.echo(message, err=True)


def console(stream: TextIO) -> Console:
    """A rich console on the stream, with the width of its terminal, of COLUMNS, or without a limit."""
    from rich.console import Console

    width = None if stream.isatty() or os.environ.get("COLUMNS") else UNLIMITED
    return Console(file=stream, width=width, markup=False, emoji=False, highlight=False)


def print_lines(lines: list[Text]) -> None:
    """Print rich lines on stdout, without wrapping and without trailing blanks."""
    out = console(sys.stdout)
    for line in lines:
        line.rstrip()
        line.truncate(out.width, overflow="ellipsis")
        out.print(line, no_wrap=True, crop=False, overflow="ignore", soft_wrap=True)


@contextmanager
def machine_quiet(*, as_json: bool) -> Iterator[TextIO]:
    """Yields stdout; with `--json`, output of handlers goes to stderr meanwhile."""
    out = sys.stdout
    if not as_json:
        yield out
        return
    with redirect_stdout(sys.stderr):
        yield out


def has_marks(stream: TextIO) -> bool:
    """Whether the stream can show marks such as ✓."""
    return _is_utf8(stream)


def _is_utf8(stream: TextIO) -> bool:
    return (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"
