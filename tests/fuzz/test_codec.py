"""The codec at its edges: JSON comes back exactly, anything else is refused at its place, bytes are not trusted.

What comes back equal is let through, though it comes back as what it equals: an `IntEnum` as its number, a
`defaultdict` as a `dict`.
"""

from __future__ import annotations

import enum
import math
import sys
from collections import OrderedDict, UserDict, defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.errors import PayloadError
from stepwell.store import codec
from stepwell.store.codec import MOST_LEVELS, PLAIN, Codec
from tests.fuzz.profile import examples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT = 4 * 2**20
MOST_DIGITS = 4_300
"""What Python turns from a number into a text and back, at most."""

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["", "\0", "\u2028", "\U0010ffff", "a" * 999]
)
NUMBERS = (
    st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        [-0.0, 0.0, 5e-324, sys.float_info.max, 2**63, 2**64, -(2**63) - 1, 10 ** (MOST_DIGITS - 1), 1e16]
    )
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=20,
)


def exactly(one: Any, other: Any) -> bool:
    """Whether both are the same to the last bit: 1 is not True or 1.0, and -0.0 is not 0.0; by no method of theirs."""
    if type(one) is not type(other):
        return False
    if type(one) is dict:
        return list(one) == list(other) and all(exactly(one[key], other[key]) for key in one)
    if type(one) is list:
        return len(one) == len(other) and all(exactly(a, b) for a, b in zip(one, other, strict=True))
    if type(one) is float:
        return repr(one) == repr(other)
    return bool(one == other)


def nested(value: Any, levels: int, *, in_dicts: bool) -> Any:
    """The value in so many lists or dicts."""
    for _ in range(levels):
        value = {"in": value} if in_dicts else [value]
    return value


@examples(80)
@given(value=JSON)
def test_every_json_value_comes_back_exactly(value: Any) -> None:
    data = PLAIN.encode(value, "here")
    assert exactly(PLAIN.decode(data), value)
    assert PLAIN.is_sound(data)


@pytest.mark.parametrize("in_dicts", [False, True])
def test_nesting_comes_back_up_to_the_limit_and_is_refused_beyond_it(in_dicts: bool) -> None:  # noqa: FBT001  a parameter of the test
    deepest = nested(1, MOST_LEVELS, in_dicts=in_dicts)
    assert exactly(PLAIN.decode(PLAIN.encode(deepest, "here")), deepest)
    for levels in (MOST_LEVELS + 1, 900, 5_000, 200_000):
        with pytest.raises(PayloadError, match=r"^here: it is nested too deeply"):
            PLAIN.encode(nested(1, levels, in_dicts=in_dicts), "here")


def test_what_was_kept_is_read_on_a_stack_that_is_nearly_full() -> None:
    deepest = nested([1], MOST_LEVELS - 1, in_dicts=True)
    data = PLAIN.encode(deepest, "here")

    def read(frames: int) -> Any:
        return read(frames - 1) if frames else PLAIN.decode(data)

    assert read(sys.getrecursionlimit() // 2) == deepest


def test_a_long_flat_value_is_not_taken_for_a_deep_one() -> None:
    value = [{"at": [number]} for number in range(1_000)]
    assert PLAIN.decode(PLAIN.encode(value, "here")) == value


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Real(float):
    pass


class Colour(enum.Enum):
    RED = "red"


class BrokenError(ValueError):
    """An error that cannot be told."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


def broken(*given: Any, **named: Any) -> NoReturn:
    raise BrokenError


class Broken:
    """Raises whatever it is asked."""

    __repr__ = __str__ = __eq__ = __iter__ = __len__ = __bool__ = broken

    def __hash__(self) -> int:
        return 1


class BrokenDict(dict[Any, Any]):
    """A dict that cannot be compared, looked through or shown."""

    __repr__ = __eq__ = __iter__ = items = values = keys = broken


class BrokenList(list[Any]):
    """A list that cannot be compared, looked through or shown."""

    __repr__ = __eq__ = __iter__ = broken


@dataclass
class Point:
    x: int


class Pair(NamedTuple):
    x: int


class Record(msgspec.Struct):
    x: int = 1


def numbers() -> Iterator[int]:
    yield 1


WRONG: dict[str, Callable[[], Any]] = {
    "tuple": lambda: (1,),
    "empty tuple": tuple,
    "named tuple": lambda: Pair(1),
    "set": lambda: {1},
    "frozenset": lambda: frozenset({1}),
    "date": lambda: date(2030, 1, 1),
    "datetime": lambda: datetime(2030, 1, 1, tzinfo=UTC),
    "time": lambda: time(1),
    "timedelta": lambda: timedelta(1),
    "NaN": lambda: math.nan,
    "infinity": lambda: math.inf,
    "minus infinity": lambda: -math.inf,
    "str subclass": lambda: Text("x"),
    "int subclass": lambda: Whole(1),
    "float subclass": lambda: Real(1.5),
    "enum": lambda: Colour.RED,
    "huge number": lambda: 10**MOST_DIGITS,
    "bytes": lambda: b"x",
    "bytearray": lambda: bytearray(b"x"),
    "memoryview": lambda: memoryview(b"x"),
    "Decimal": lambda: Decimal("1.5"),
    "Fraction": lambda: Fraction(1, 2),
    "complex": lambda: 1j,
    "UUID": lambda: UUID(int=7),
    "object": object,
    "class": lambda: int,
    "generator": numbers,
    "range": lambda: range(3),
    "dict view": {"a": 1}.keys,
    "user dict": lambda: UserDict(a=1),
    "dataclass": lambda: Point(1),
    "struct": Record,
    "raw JSON": lambda: msgspec.Raw(b"1"),
    "unset": lambda: msgspec.UNSET,
    "exception": BrokenError,
    "broken object": Broken,
    "broken dict": lambda: BrokenDict(a=1),
    "broken list": lambda: BrokenList([1]),
    "ellipsis": lambda: ...,
    "half a character": lambda: "\ud800",
}
WRONG_KEYS: dict[str, Callable[[], Any]] = {
    "int": lambda: 1,
    "float": lambda: 1.5,
    "None": lambda: None,
    "bool": lambda: True,
    "tuple": lambda: (1, "a"),
    "bytes": lambda: b"x",
    "date": lambda: date(2030, 1, 1),
    "enum": lambda: Colour.RED,
    "UUID": lambda: UUID(int=7),
    "broken object": Broken,
    "half a character": lambda: "\udfff",
}
UNPLACED = {"broken dict", "broken list"}
"""What cannot even be looked through is placed where the whole value is."""


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_json_is_refused_at_its_place(kind: str) -> None:
    with pytest.raises(PayloadError) as alone:
        PLAIN.encode(WRONG[kind](), "here")
    assert alone.value.place == "here"
    with pytest.raises(PayloadError) as within:
        PLAIN.encode({"fine": [1, "x"], "list": [None, {"it": WRONG[kind]()}]}, "here")
    assert within.value.place == ("here" if kind in UNPLACED else "here.list[1].it")
    str(within.value).encode()


@pytest.mark.parametrize("kind", WRONG_KEYS)
def test_a_key_that_is_no_text_is_refused_at_its_place(kind: str) -> None:
    with pytest.raises(PayloadError) as caught:
        PLAIN.encode({"fine": 1, "list": [{WRONG_KEYS[kind](): 1}]}, "here")
    assert caught.value.place.startswith("here.list[0][")
    assert "a key" in caught.value.reason
    str(caught.value).encode()


def test_a_value_that_contains_itself_is_refused_where_it_does() -> None:
    cycle: list[Any] = [1]
    cycle.append({"again": cycle})
    with pytest.raises(PayloadError, match=r"^here\[1\]\.again: it contains itself$"):
        PLAIN.encode(cycle, "here")
    ring: dict[str, Any] = {}
    ring["ring"] = {"of": [ring]}
    with pytest.raises(PayloadError, match=r"^here\.ring\.of\[0\]: it contains itself$"):
        PLAIN.encode(ring, "here")


def test_what_stands_twice_in_a_value_is_no_cycle() -> None:
    twice = {"a": [1]}
    assert PLAIN.decode(PLAIN.encode([twice, twice], "here")) == [{"a": [1]}, {"a": [1]}]


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    "value",
    [Level.HIGH, Word.RED, defaultdict(list, a=[1]), OrderedDict(a=1), {Word.RED: [Level.HIGH]}, {Text("k"): 1}],
    ids=repr,
)
def test_what_comes_back_equal_comes_back_as_what_it_equals(value: Any) -> None:
    back = PLAIN.decode(PLAIN.encode(value, "here"))
    assert back == value
    assert exactly(back, PLAIN.decode(PLAIN.encode(back, "here")))


def test_what_comes_back_equal_is_not_blamed_for_what_stands_beside_it() -> None:
    with pytest.raises(PayloadError, match=r"^here\[2\]: tuple$"):
        PLAIN.encode([{Text("key"): Level.HIGH}, Word.RED, (1,)], "here")


THINGS = st.sampled_from([make for kind, make in WRONG.items() if kind not in UNPLACED]).map(lambda make: make())
ANYTHING = st.recursive(
    JSON | THINGS | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner)
        | st.dictionaries(TEXTS | st.integers() | st.none() | st.just(b"key"), inner, max_size=4)
    ),
    max_leaves=10,
)


@examples(80)
@given(value=ANYTHING)
def test_anything_comes_back_exactly_or_is_refused_at_a_place_in_it(value: Any) -> None:
    refused: PayloadError | None = None
    try:
        data = PLAIN.encode(value, "here")
    except PayloadError as error:
        refused = error
    else:
        assert exactly(PLAIN.decode(data), value)
    if refused is not None:
        assert refused.place.startswith("here")
        assert len(str(refused).encode()) < 2_000


@examples(25)
@given(value=JSON, limit=st.integers(0, 200))
def test_nothing_longer_than_the_limit_is_kept(value: Any, limit: int) -> None:
    length = len(PLAIN.encode(value, "here"))
    if length <= limit:
        assert len(Codec(limit).encode(value, "here")) == length
    else:
        with pytest.raises(PayloadError, match=f"^here: {length:,} bytes, above the limit of {limit:,}$"):
            Codec(limit).encode(value, "here")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A stored value after something has happened to it."""
    data = PLAIN.encode(draw(JSON), "here")
    at = draw(st.integers(0, len(data)))
    till = draw(st.integers(at, min(len(data), at + 8)))
    between = draw(st.binary(max_size=6) | st.sampled_from([b'"', b"[", b"}", b",", b"\\", b"0"]))
    return data[:at] + between + data[till:]


STRANGE_BYTES = st.sampled_from(
    [b"", b" ", b"nul", b"NaN", b"-Infinity", b"01", b"1e400", b"\xef\xbb\xbf1", b'"\xff"', b'"\xed\xa0\x80"', b"\0"]
) | st.sampled_from(
    [b'"\\ud800"', b"[" * 100_000, b'{"a":' * 100_000, b"1" * (MOST_DIGITS + 1), b"1 2", b"{1:2}", b"'a'"]
)


@examples(120)
@given(data=st.binary(max_size=40) | damaged() | STRANGE_BYTES)
def test_bytes_are_a_json_value_or_refused(data: bytes) -> None:
    refused: str | None = None
    try:
        value = PLAIN.decode(data)
    except PayloadError as error:
        refused = error.place
    else:
        assert PLAIN.is_sound(data)
        assert exactly(PLAIN.decode(PLAIN.encode(value, "here")), value)
    assert refused in {None, "a stored value"}


@examples(50)
@given(data=st.binary(max_size=40) | damaged() | STRANGE_BYTES)
def test_bytes_are_a_failure_or_one_that_says_they_are_none(data: bytes) -> None:
    failure = PLAIN.decode_failure(data, "node")
    assert failure.type == "JournalError"
    assert failure.node == "node"
    assert PLAIN.decode_failure(PLAIN.encode_failure(failure), "other") == failure


class Odd(str):
    """A text that equals nothing."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return False


ODD = st.sampled_from(
    [math.nan, math.inf, -math.inf, "\ud800", Odd("x"), b"x", (1,), {1}, 1 + 2j, date.max, object, 10**5_000]
)
FLAT_KEYS = TEXTS | st.sampled_from(["\ud800", Odd("key"), 1, None, True, 1.5])
FLAT = NUMBERS | TEXTS | st.none() | st.booleans() | ODD


def told(value: Any, limit: int) -> bytes | tuple[object, ...]:
    """What comes of it: the bytes, or the words of the error."""
    try:
        return Codec(limit).encode(value, "here")
    except PayloadError as error:
        return error.args


@examples(200)
@given(
    value=FLAT | st.lists(FLAT, max_size=4) | st.dictionaries(FLAT_KEYS, FLAT, max_size=4) | JSON,
    limit=st.integers(0, 40),
)
def test_what_needs_no_second_look_has_the_same_bytes_and_errors_as_with_one(value: Any, limit: int) -> None:
    quick = told(value, limit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_ALWAYS_EQUAL", frozenset())
        assert told(value, limit) == quick
