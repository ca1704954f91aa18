"""Values to stored bytes and back: JSON that comes back equal, or a `PayloadError` that names the place.

Encoding, decoding and comparing run in C; Python walks a value only to say where it went wrong.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.errors import Failure, PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterator

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_ALWAYS_EQUAL = frozenset({bool, int, type(None)})
_encode_failure = msgspec.json.Encoder().encode
_decode_failure = msgspec.json.Decoder(Failure).decode


def encode(value: Any, place: str, limit: int) -> bytes:
    """The value as JSON of at most `limit` bytes; raises PayloadError that begins with `place`."""
    try:
        data = _encode(value)
        same = type(value) in _ALWAYS_EQUAL or _decode(data) == value
    except RecursionError:
        raise PayloadError(*_deepest(value, place)) from None
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise PayloadError(*_culprit(value, place, str(error))) from None
    except Exception as error:  # noqa: BLE001  a value's own methods may raise anything
        raise PayloadError(place, f"it cannot be compared: {type(error).__name__}") from None
    if same is not True:
        raise PayloadError(*_culprit(value, place, "it would not come back equal"))
    if len(data) > limit:
        raise PayloadError(place, f"{len(data):,} bytes, above the limit of {limit:,}")
    return data


def decode(data: bytes) -> Any:
    """A fresh copy of a stored value."""
    return _decode(data)


def encode_failure(failure: Failure) -> bytes:
    """A failure as stored."""
    return _encode_failure(failure)


def decode_failure(data: bytes) -> Failure:
    """A stored failure."""
    return _decode_failure(data)


def _culprit(value: Any, place: str, otherwise: str) -> tuple[str, str]:
    """The first place that is not JSON, and what is there instead."""
    for path, part in _walk(value, place, ()):
        reason = _fault(part)
        if reason is not None:
            return path, reason
    return place, otherwise


def _deepest(value: Any, place: str) -> tuple[str, str]:
    try:
        for path, part in _walk(value, place, ()):
            if part is _CYCLE:
                return path, "it contains itself"
    except RecursionError:
        pass
    return place, "it is nested too deeply"


class _Cycle:
    """Marks the place where a value contains itself."""


_CYCLE = _Cycle()


def _walk(value: Any, path: str, above: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    if id(value) in above:
        yield path, _CYCLE
        return
    yield path, value
    if isinstance(value, dict):
        for key, part in value.items():
            step = f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r:.60}]"
            if not isinstance(key, str):
                yield f"{path}{step}", _BadKey(key)
            yield from _walk(part, f"{path}{step}", (*above, id(value)))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _walk(part, f"{path}[{index}]", (*above, id(value)))


class _BadKey:
    """Marks a key that is no string."""

    def __init__(self, key: Any) -> None:
        self.type = type(key).__name__


def _fault(part: Any) -> str | None:
    if isinstance(part, _BadKey):
        return f"a key of type {part.type}"
    if part is _CYCLE:
        return "it contains itself"
    if isinstance(part, float) and not math.isfinite(part):
        return repr(float(part))
    if part is None or isinstance(part, (bool, int, float, dict, list)):
        return None
    if isinstance(part, str):
        return None if part.isascii() or _is_text(part) else "str with a lone surrogate"
    return type(part).__name__


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
