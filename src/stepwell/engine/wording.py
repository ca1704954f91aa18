"""How an error and an instant stand in a line of a log or of an explanation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepwell.errors import Failure


def error_text(error: Failure, longest: int) -> str:
    """Type and message in one line of printable characters, `longest` of them at most."""
    text = " ".join(f"{error.type}: {error.message}".split()).rstrip(":. ")
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def clock_text(at: datetime) -> str:
    """The instant in UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
