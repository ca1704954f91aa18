"""Durations and instants as users write them, turned into whole microseconds; reads no clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from stepwell.workflow.numbers import is_number, shown

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LONGEST_DAYS = 366_000
"""A thousand years. A longer duration is a mistake, and its end would leave the range of dates."""
FIRST_MOMENT = datetime.min.replace(tzinfo=UTC)
LAST_MOMENT = datetime.max.replace(tzinfo=UTC)
"""The ends of the range of dates: an instant between them can be shown in UTC."""
_LATEST = (LAST_MOMENT - EPOCH) // _MICROSECOND

Duration: TypeAlias = timedelta | float
"""A length of time: a `timedelta` or seconds."""


def micros(duration: object, what: str) -> int:
    """The duration in microseconds. Raises ValueError, naming `what`, for anything else and for a negative one."""
    if isinstance(duration, timedelta):
        length = duration
    elif isinstance(duration, int) and not isinstance(duration, bool):
        length = timedelta(seconds=min(max(int(duration), -1), (_LONGEST_DAYS + 1) * 86_400))
    elif isinstance(duration, float) and is_number(duration):
        length = timedelta(seconds=min(max(float(duration), -1.0), (_LONGEST_DAYS + 1) * 86_400.0))
    else:
        raise ValueError(f"{what} must be a timedelta or a number of seconds, got {shown(duration)}")
    if length < timedelta(0) or (isinstance(duration, float) and duration < 0):
        raise ValueError(f"{what} must be >= 0, got {shown(duration)}")
    if length > timedelta(days=_LONGEST_DAYS):
        raise ValueError(f"{what} must be at most a thousand years, got {shown(duration)}")
    return length // _MICROSECOND


def instant(moment: datetime, what: str) -> int:
    """The instant in microseconds since 1970 (UTC). Raises ValueError, naming `what`, for a naive datetime.

    A datetime that is before the year 1 or after the year 9999 in UTC gives the first or the last instant of those.
    """
    if moment.utcoffset() is None:
        raise ValueError(f"{what} must be a datetime with a time zone, got {shown(moment)}")
    return (min(max(moment, FIRST_MOMENT), LAST_MOMENT) - EPOCH) // _MICROSECOND


def moment(at: int) -> datetime:
    """The aware datetime, in UTC, of an instant in microseconds since 1970."""
    return EPOCH + timedelta(microseconds=at)


def wake_at(pause: object, now: int, what: str) -> int:
    """The instant at which a wait begun at `now` ends: after a duration, or at an aware datetime."""
    if isinstance(pause, datetime):
        return instant(pause, what)
    return latest(now + micros(pause, what))


def latest(at: int) -> int:
    """The instant, or the last one of the calendar: a sum with a clock that is far ahead must still be readable."""
    return min(at, _LATEST)
