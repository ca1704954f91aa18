"""Counts and shares as users write them, checked; and how a refused value is shown, whatever it is."""

from __future__ import annotations

import math

LARGEST_COUNT = 1_000_000_000
"""What is larger is a mistake, and would not fit the stores' columns, twice over."""
_SHOWN = 100


def shown(value: object) -> str:
    """The value as a message shows it, shortened; also one that cannot be shown, as an integer of 5,000 digits."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  a value may raise anything when it is shown
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def is_number(value: object) -> bool:
    """Whether this is a finite `int` or `float` that a `float` can hold."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def count(value: object, what: str, least: int = 1) -> int:
    """The whole number. Raises ValueError, naming `what`, for anything else, below `least`, or over a billion."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{what} is a whole number from {least}, not {shown(value)}")
    if value > LARGEST_COUNT:
        raise ValueError(f"{what} is at most {LARGEST_COUNT:,}, not {shown(value)}")
    return value
