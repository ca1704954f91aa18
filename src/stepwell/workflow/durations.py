"""Durations and instants as users write them, turned into whole microseconds; reads no clock."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LONGEST_DAYS = 366_000
"""A thousand years: what is longer is a mistake, and would leave the range of dates."""

Duration: TypeAlias = timedelta | float
"""A length of time: a `timedelta` or seconds."""


def micros(duration: object, what: str) -> int:
    """The duration in whole microseconds. Raises ValueError, naming `what`, for anything else or below zero."""
    if isinstance(duration, timedelta):
        length = duration
    elif isinstance(duration, (int, float)) and not isinstance(duration, bool) and math.isfinite(duration):
        length = timedelta(seconds=min(max(duration, -1.0), (_LONGEST_DAYS + 1) * 86_400.0))
    else:
        raise ValueError(f"{what} is a timedelta or seconds, not {duration!r}")
    if length < timedelta(0):
        raise ValueError(f"{what} is below zero: {duration!r}")
    if length > timedelta(days=_LONGEST_DAYS):
        raise ValueError(f"{what} is longer than a thousand years: {duration!r}")
    return length // _MICROSECOND


def instant(moment: datetime, what: str) -> int:
    """The instant in microseconds since 1970 (UTC). Raises ValueError, naming `what`, for a naive datetime."""
    if moment.utcoffset() is None:
        raise ValueError(f"{what} is a datetime without a time zone: {moment!r}")
    return (moment - EPOCH) // _MICROSECOND


def moment(at: int) -> datetime:
    """The aware datetime, in UTC, of an instant in microseconds since 1970."""
    return EPOCH + timedelta(microseconds=at)


def wake_at(pause: object, now: int, what: str) -> int:
    """The instant at which a wait begun at `now` ends: after a duration, or at an aware datetime."""
    if isinstance(pause, datetime):
        return instant(pause, what)
    return now + micros(pause, what)
