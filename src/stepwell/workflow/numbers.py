"""Numbers as users write them, checked; and how a refused value is shown, whatever it is."""

from __future__ import annotations

import math

LARGEST_COUNT = 1_000_000_000
"""A larger count is a mistake, and twice as much would not fit the stores' 32-bit columns."""
_SHOWN = 100


def shown(value: object) -> str:
    """The value as a message shows it, shortened. A value that cannot be shown is named by its type."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  a value may raise anything when it is shown
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def is_number(value: object) -> bool:
    """Whether this is an `int` or `float` that is finite as a `float`."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def count(value: object, what: str, least: int = 1) -> int:
    """The integer. Raises ValueError, naming `what`, for anything else, and outside `least` to a billion."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{what} must be an integer >= {least}, got {shown(value)}")
    if value > LARGEST_COUNT:
        raise ValueError(f"{what} must be at most {LARGEST_COUNT:,}, got {shown(value)}")
    return value
