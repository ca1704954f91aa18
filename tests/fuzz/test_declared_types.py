"""Declared types under generated values: what is accepted comes back equal, of its type; all else is refused."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

import attrs
import msgspec
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from stepwell import PayloadError
from stepwell.errors import DefinitionError
from stepwell.store.codec import Codec
from stepwell.workflow.declared import declared
from tests.fuzz.profile import examples

CODEC = Codec()


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Line:
    item: str
    count: Decimal


@dataclass(eq=False)
class NoEquality:
    item: str
    at: datetime


class Order(msgspec.Struct):
    id: int
    due: datetime | None
    lines: list[Line]
    more: Any = None


class Model(BaseModel):
    id: UUID
    total: Decimal
    tags: set[str] = set()


@attrs.define
class Attributes:
    span: timedelta
    data: bytes


class Pair(NamedTuple):
    left: float
    right: Colour


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
AWARE = st.datetimes(timezones=st.timezones() | st.just(UTC))
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
LINES = st.builds(Line, TEXT, DECIMALS)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(TEXT, parts, max_size=3),
    max_leaves=5,
)
LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers(-(2**63), 2**64 - 1)),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (str, TEXT),
    (bool, st.booleans()),
    (bytes, st.binary(max_size=8)),
    (datetime, AWARE),
    (date, st.dates()),
    (time, st.times()),
    (timedelta, st.timedeltas(timedelta(days=-9_999), timedelta(days=9_999))),
    (Decimal, DECIMALS),
    (UUID, st.uuids()),
    (Colour, st.sampled_from(Colour)),
    (Line, LINES),
    (Pair, st.builds(Pair, st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(Colour))),
]
OBJECTS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Order, st.builds(Order, st.integers(0, 99), st.none() | AWARE, st.lists(LINES, max_size=2), JSON)),
    (Model, st.builds(Model, id=st.uuids(), total=DECIMALS, tags=st.sets(TEXT, max_size=3))),
    (Attributes, st.builds(Attributes, st.timedeltas(timedelta(0), timedelta(days=99)), st.binary(max_size=3))),
    (NoEquality, st.builds(NoEquality, TEXT, AWARE)),
]
KEYS = [pair for pair in LEAVES if pair[0] in {int, str, UUID, Colour, date}]


def _generic(origin: Any, *parts: Any) -> Any:
    return origin[parts]


def around(pair: tuple[Any, st.SearchStrategy[Any]]) -> st.SearchStrategy[tuple[Any, st.SearchStrategy[Any]]]:
    """Types made of a type, each with its values."""
    type_, values = pair
    return st.one_of(
        st.just((_generic(list, type_), st.lists(values, max_size=3))),
        st.just((_generic(tuple, type_, int), st.tuples(values, st.integers(0, 9)))),
        st.just((_generic(tuple, type_, ...), st.lists(values, max_size=3).map(tuple))),
        st.just((type_ | None, st.none() | values)),
        st.sampled_from(KEYS).map(
            lambda key: (_generic(dict, key[0], type_), st.dictionaries(key[1], values, max_size=3))
        ),
    )


TYPES = st.recursive(st.sampled_from(LEAVES + OBJECTS), lambda types: types.flatmap(around), max_leaves=3) | (
    st.sampled_from(LEAVES).map(lambda pair: (_generic(set, pair[0]), st.sets(pair[1], max_size=3)))
)
SLOWLY = examples(100)


def check_words(refused: Exception, begins: str = "input") -> None:
    """An error names its place and tells of it in our words."""
    assert str(refused).startswith(begins)
    assert not re.search("msgspec|Expected|Error", str(refused))


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, those without equality by their parts."""
    if isinstance(one, NoEquality) and isinstance(other, NoEquality):
        return (one.item, one.at.astimezone(UTC)) == (other.item, other.at.astimezone(UTC))
    if type(one) is type(other) and isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(part, other[key]) for key, part in one.items())
    if isinstance(one, datetime) and isinstance(other, datetime):
        return one.astimezone(UTC) == other.astimezone(UTC)
    if isinstance(one, Order) and isinstance(other, Order):
        return same(msgspec.structs.astuple(one), msgspec.structs.astuple(other))
    return bool(one == other) and type(one) is type(other)


@SLOWLY
@given(st.data())
def test_every_value_of_a_type_comes_back_equal(data: st.DataObject) -> None:
    type_, values = data.draw(TYPES)
    value = data.draw(values)
    kept = declared(type_, "input")
    assert kept is not None
    try:
        encoded = CODEC.encode(value, "input", kept)
    except PayloadError as refused:
        check_words(refused)
        if may_be_refused(value):
            return
        raise
    assert same(CODEC.decode_as(kept, encoded, "input"), value)
    assert CODEC.is_sound(encoded)


def may_be_refused(value: Any) -> bool:
    """Whether a part of the value is an instant that no text can name: out of the calendar in UTC."""
    if isinstance(value, datetime):
        offset = value.utcoffset()
        return offset is None or offset.total_seconds() % 60 != 0 or value.year in {1, 9999}
    parts = value if isinstance(value, list | tuple | set) else ()
    if isinstance(value, dict):
        parts = [*value.keys(), *value.values()]
    fields = [value.due] if isinstance(value, Order) else [value.at] if isinstance(value, NoEquality) else []
    return any(map(may_be_refused, [*parts, *fields]))


@SLOWLY
@given(st.data())
def test_what_is_accepted_comes_back_equal_whatever_was_declared(data: st.DataObject) -> None:
    type_, _ = data.draw(TYPES)
    _, values = data.draw(TYPES)
    value = data.draw(values | st.floats() | st.datetimes() | JSON)
    kept = declared(type_, "input")
    assert kept is not None
    try:
        encoded = CODEC.encode(value, "input", kept)
    except PayloadError as refused:
        check_words(refused)
        return
    copy = CODEC.decode_as(kept, encoded, "input")
    assert same(copy, value) or copy == value


@SLOWLY
@given(st.data())
def test_stored_json_is_read_as_a_value_of_the_type_or_refused_in_our_words(data: st.DataObject) -> None:
    type_, _ = data.draw(TYPES)
    stored = data.draw(JSON)
    kept = declared(type_, "input")
    assert kept is not None
    try:
        value = CODEC.decode_as(kept, CODEC.encode(stored, "input"), "input")
    except PayloadError as refused:
        check_words(refused)
        return
    assert math.isfinite(value) if isinstance(value, float) else True
    CODEC.encode(value, "input", kept)


@SLOWLY
@given(st.lists(st.sampled_from([one for one, _ in LEAVES + OBJECTS]), min_size=2, max_size=4, unique=True))
def test_a_union_is_told_apart_or_refused_when_it_is_declared(parts: list[Any]) -> None:
    union: Any = parts[0]
    for part in parts[1:]:
        union |= part
    try:
        declared(union, "flow")
    except DefinitionError as refused:
        check_words(refused, "flow: the type ")
