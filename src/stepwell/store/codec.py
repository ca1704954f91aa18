"""Values to stored bytes and back: JSON that comes back equal, or a `PayloadError` that names the place.

Encoding, decoding and comparing run in C; Python walks a value only to say where it went wrong, and one of very many
lists and objects to see how deep they are.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.errors import Failure, PayloadError
from stepwell.workflow.declared import FromJson

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stepwell.workflow.annotations import Declaration
    from stepwell.workflow.declared import DeclaredType, ValueType

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
# Types of which JSON alters no value, so that it need not be decoded and compared; exactly these, since a subclass may
# do as it likes. Lists and objects of them are decoded and compared all the same: that takes 0.4 µs for three parts,
# in C, and to look at the types of the parts takes Python as long (docs/decisions/0009).
_ALWAYS_EQUAL = frozenset({str, bool, int, type(None)})
_OURS = frozenset({TypeError, ValueError, OverflowError, UnicodeEncodeError, UnicodeDecodeError})
_encode_failure = msgspec.json.Encoder().encode
_decode_failure = msgspec.json.Decoder(Failure).decode
_skip = msgspec.json.Decoder(msgspec.Raw).decode
MAX_VALUE_BYTES = 4 * 2**20
"""How many bytes a value has at most, where an app says nothing else."""
MOST_LEVELS = 200
"""How deep lists and objects may be nested: so deep that no reader's stack is too short for it, whatever called it."""
TOO_DEEP = f"it is nested too deeply, in more than {MOST_LEVELS} levels"
_SHOWN = 60
"""Characters of a key that a message shows."""


class Codec:
    """Makes and reads every stored value of an app; a value has at most `max_value_bytes`.

    It is handed down from the app to its workers and its store, so that another codec can take its place.
    """

    null = b"null"
    """The value of what was skipped, and of a sleep."""

    def __init__(self, max_value_bytes: int = MAX_VALUE_BYTES) -> None:
        self.max_value_bytes = max_value_bytes

    def encode(self, value: Any, place: str, declared: DeclaredType | None = None) -> bytes:
        """The value as JSON, by its declared type if it has one; raises PayloadError that begins with `place`."""
        if declared is not None:
            return self._encode_declared(value, place, declared)
        try:
            data = _encode(value)
            if type(value) in _ALWAYS_EQUAL:
                copy, same = value, True
            else:
                copy = _decode(data)
                same = copy == value
        except RecursionError:
            raise PayloadError(*_deepest(value, place)) from None
        except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
            raise PayloadError(*_culprit(value, place, _said(error))) from None
        except Exception as error:  # noqa: BLE001  a value's own methods may raise anything
            raise PayloadError(place, f"it cannot be compared: {type(error).__name__}") from None
        if same is not True:
            raise PayloadError(*_culprit(value, place, "it would not come back equal"))
        if len(data) > MOST_LEVELS and _may_be_deep(data) and _is_deep(copy):
            raise PayloadError(place, TOO_DEEP)
        if len(data) > self.max_value_bytes:
            raise PayloadError(place, self._too_large(data))
        return data

    def encode_result(self, value: Any, place: str, declaration: Declaration) -> bytes:
        """The value as JSON, by what is declared of it; the error tells of an annotation that was not resolved."""
        try:
            return self.encode(value, place, declaration.type)
        except PayloadError as error:
            if not declaration.hint:
                raise
            raise PayloadError(error.place, f"{error.reason}; {declaration.hint}") from None

    def encode_given(self, value: Any, place: str, declared: DeclaredType | None) -> bytes:
        """What an app is given, a value of the declared type or `FromJson`, as JSON; raises PayloadError."""
        if not isinstance(value, FromJson):
            return self.encode(value, place, declared)
        data = self.encode(value.value, place)
        return data if declared is None else self.encode(self.decode_as(declared, data, place), place, declared)

    def _encode_declared(self, value: Any, place: str, declared: DeclaredType) -> bytes:
        if declared.is_plain and type(value) is declared.annotation:
            return self.encode(value, place)
        try:
            data = declared.encode(value)
            copy = declared.decode(data)
            same = copy == value
            if same is not True:
                same = declared.is_same(value, copy)
        except RecursionError:
            raise PayloadError(place, TOO_DEEP) from None
        except Exception as error:  # noqa: BLE001  a value's own methods, and a type's own checks, may raise anything
            raise PayloadError(*declared.why_refused(value, place, error)) from None
        if not same:
            raise PayloadError(*declared.why_refused(value, place, None))
        naive = declared.naive(value, data, place)
        if naive is not None:
            raise PayloadError(*naive)
        reason = self.refusal_of(data)
        if reason is not None:
            raise PayloadError(place, reason)
        return data

    def decode_as(self, declared: ValueType, data: bytes, place: str) -> Any:
        """A fresh copy of a stored value, as its declared type; raises PayloadError for one that does not fit it."""
        try:
            return declared.decode(data)
        except Exception as error:  # noqa: BLE001  a type's own checks may raise anything
            raise PayloadError(*declared.why_unreadable(self.decode(data), place, error)) from None

    def misfit(self, declared: ValueType, data: bytes, place: str) -> str | None:
        """Why the stored value is none of this type, in a sentence; None if it is one."""
        try:
            self.decode_as(declared, data, place)
        except PayloadError as error:
            return str(error)
        return None

    def decode(self, data: bytes) -> Any:
        """A fresh copy of a stored value; raises PayloadError for what is no stored value."""
        try:
            return _decode(data)
        except (ValueError, RecursionError) as error:
            raise PayloadError("a stored value", f"it is not JSON: {error}") from None

    def is_same(self, one: bytes, other: bytes) -> bool:
        """Whether two encoded values are equal as JSON: the order of keys does not count; 1 is 1.0, and is not true."""
        return one == other or _is_equal(self.decode(one), self.decode(other))

    def is_sound(self, data: bytes) -> bool:
        """Whether this can be a stored value; much cheaper than to decode it."""
        try:
            _skip(data)
            return data.isascii() or bool(data.decode())
        except (ValueError, RecursionError):
            return False

    def join(self, parts: Mapping[str, bytes]) -> bytes:
        """Encoded values by name as one encoded object; names need no escapes."""
        return b"{%b}" % b",".join(b'"%b":%b' % (name.encode(), value) for name, value in parts.items())

    def refusal_of(self, data: bytes) -> str | None:
        """Why encoded values that were joined are no value that may be stored, or None."""
        if len(data) > self.max_value_bytes:
            return self._too_large(data)
        return TOO_DEEP if _may_be_deep(data) and _is_deep(self.decode(data)) else None

    def encode_failure(self, failure: Failure) -> bytes:
        """A failure as stored."""
        return _encode_failure(failure)

    def decode_failure(self, data: bytes, node: str) -> Failure:
        """A stored failure; of bytes that are none, one that says so, since no decision rests on its words."""
        try:
            return _decode_failure(data)
        except (ValueError, RecursionError) as error:
            return Failure(node, "JournalError", f"what was stored of its error cannot be read: {error}")

    def _too_large(self, data: bytes) -> str:
        return f"{len(data):,} bytes, above the limit of {self.max_value_bytes:,}"


PLAIN = Codec()
"""The codec of values that no app has set a limit for."""


def _is_equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_equal, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def _may_be_deep(data: bytes) -> bool:
    """Whether it has brackets enough; the few values that have are looked through level by level."""
    return data.count(b"[") + data.count(b"{") > MOST_LEVELS


def _is_deep(copy: Any) -> bool:
    level = [copy]
    for _ in range(MOST_LEVELS):
        level = [
            part
            for above in level
            for part in (above.values() if type(above) is dict else above)
            if type(part) is dict or type(part) is list
        ]
        if not level:
            return False
    return True


def _culprit(value: Any, place: str, otherwise: str) -> tuple[str, str]:
    """The first place that is not JSON, and what is there instead."""
    try:
        for path, part in _walk(value, place, ()):
            reason = _fault(part)
            if reason is not None:
                return path, reason
    except Exception as error:  # noqa: BLE001  a value's own methods may raise anything
        return place, f"it cannot be looked into: {type(error).__name__}"
    return place, otherwise


def _deepest(value: Any, place: str) -> tuple[str, str]:
    try:
        for path, part in _walk(value, place, ()):
            if part is _CYCLE:
                return path, "it contains itself"
    except Exception:  # noqa: BLE001  a value's own methods may raise anything, and so may the stack
        return place, TOO_DEEP
    return place, TOO_DEEP


class _Cycle:
    """Marks the place where a value contains itself."""


_CYCLE = _Cycle()


def _walk(value: Any, path: str, above: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    if id(value) in above:
        yield path, _CYCLE
        return
    yield path, value
    if isinstance(value, dict):
        for key, part in dict.items(value):
            step = _step(key)
            if not isinstance(key, str) or not _is_text(key):
                yield f"{path}{step}", _BadKey(key)
            yield from _walk(part, f"{path}{step}", (*above, id(value)))
    elif isinstance(value, list):
        for index, part in enumerate(list.__iter__(value)):
            yield from _walk(part, f"{path}[{index}]", (*above, id(value)))


def _step(key: Any) -> str:
    """The key as part of a path, in characters that every terminal can print."""
    if not isinstance(key, str):
        return f"[{_shown(key)}]"
    return f".{key}" if key.isidentifier() and len(key) <= _SHOWN else f"[{key!a:.{_SHOWN}}]"


def _shown(key: Any) -> str:
    try:
        return f"{key!a:.{_SHOWN}}"
    except Exception:  # noqa: BLE001  a key's own __repr__ may raise anything
        return type(key).__name__


class _BadKey:
    """Marks a key that is no string."""

    def __init__(self, key: Any) -> None:
        self.reason = "a key with a lone surrogate" if isinstance(key, str) else f"a key of type {type(key).__name__}"


def _fault(part: Any) -> str | None:
    if isinstance(part, _BadKey):
        return part.reason
    if part is _CYCLE:
        return "it contains itself"
    if isinstance(part, float) and not math.isfinite(part):
        return repr(float(part))
    if isinstance(part, (dict, list)):
        return None
    if type(part) is str:
        return None if _is_text(part) else "str with a lone surrogate"
    return _refusal(part)


def _refusal(part: Any) -> str | None:
    """Why a part that holds no others cannot be kept, or None."""
    try:
        same = _decode(_encode(part)) == part
    except Exception as error:  # noqa: BLE001  a part's own methods may raise anything
        return _said(error) if type(part) is int else type(part).__name__
    return None if same is True else type(part).__name__


def _said(error: BaseException) -> str:
    """The words of an error that is no user's own, which might have none."""
    builtin = type(error) in _OURS or isinstance(error, msgspec.MsgspecError)
    return str(error) if builtin else type(error).__name__


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
