"""Formats times, durations, short ids and values as text that is safe for a terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Any

from stepwell.workflow.plain_json import plain_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SHORT_ID = 18
"""Characters of a shortened id: its millisecond and the first random digits, which two runs rarely share."""

_NAMES_SHOWN = 8
_MILLISECONDS = 1000
_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


def now() -> datetime:
    """The time by this machine's clock, for display only."""
    return datetime.now(UTC)


def printable(text: str) -> str:
    """The text with every character that could control a terminal escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def one_line(text: object) -> str:
    """The text in one line, safe for a terminal."""
    return printable(" ".join(str(text).split()))


def span(length: timedelta) -> str:
    """A duration in at most two units, such as `340 ms`, `2.5 s`, `4 min 10 s`, `3 d 2 h`."""
    seconds = max(length.total_seconds(), 0.0)
    if round(seconds * 1000) < _MILLISECONDS:
        return f"{round(seconds * 1000)} ms"
    if round(seconds, 1) < _MINUTE.seconds:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, smaller_size, smaller in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def rough(length: timedelta) -> str:
    """A duration in one unit, for a narrow column: `3 s`, `12 min`, `5 h`, `40 d`."""
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if length >= size:
            return f"{length // size} {unit}"
    return f"{max(int(length.total_seconds()), 0)} s"


def ago(moment: datetime, at: datetime) -> str:
    """The time from `moment` to `at`, such as `5 min ago`."""
    return f"{rough(at - moment)} ago"


def until(moment: datetime, at: datetime) -> str:
    """The time from `at` to `moment`: `in 5 min`, or `now` if `moment` is past."""
    left = moment - at
    if left >= _MINUTE:
        return f"in {span(left)}"
    return f"in {math.ceil(left.total_seconds())} s" if left > timedelta(0) else "now"


def instant(moment: datetime) -> str:
    """The instant in UTC, to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def iso(moment: datetime) -> str:
    """The instant in ISO 8601, in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def counted(workflows: Sequence[str]) -> str:
    """The names of the workflows, or their number if there are many."""
    return ", ".join(workflows) if 0 < len(workflows) <= _NAMES_SHOWN else f"{len(workflows)} workflows"


def short_ids(run_ids: Iterable[str]) -> dict[str, str]:
    """The shortest unique prefix of each id, at least `SHORT_ID` characters long."""
    ordered = sorted(set(run_ids))
    lengths = dict.fromkeys(ordered, SHORT_ID)
    for one, other in pairwise(ordered):
        needed = common_length(one, other) + 1
        lengths[one] = max(lengths[one], needed)
        lengths[other] = max(lengths[other], needed)
    return {run_id: run_id[: _past_dash(run_id, length)] for run_id, length in lengths.items()}


def value(given: Any) -> str:
    """A value as JSON in one line."""
    return printable(json.dumps(plain(given), ensure_ascii=False))


def plain(given: Any) -> Any:
    """Converts to JSON types: dataclasses to objects, datetimes to ISO 8601, durations to seconds."""
    match given:
        case datetime():
            return iso(given)
        case timedelta():
            return given.total_seconds()
        case Mapping():
            return {str(key): plain(item) for key, item in given.items()}
        case list() | tuple():
            return [plain(item) for item in given]
        case None | str() | bool() | int() | float():
            return given
        case _ if is_dataclass(given) and not isinstance(given, type):
            return {field.name: plain(getattr(given, field.name)) for field in fields(given)}
        case _:
            return plain_json(given)


def common_length(one: str, other: str) -> int:
    """The length of the common prefix."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _past_dash(run_id: str, length: int) -> int:
    return length + 1 if run_id[length - 1 : length] == "-" else length
