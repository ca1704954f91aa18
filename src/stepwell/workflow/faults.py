"""What is said of a value that does not fit its declared type: where, what came, and what is accepted.

Python walks a value only to say where it went wrong; whether it fits is decided in C. `info` is how msgspec describes a
type. A stored value is JSON, so there a datetime is a text.
"""

from __future__ import annotations

import math
import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import msgspec
from msgspec import inspect as types

from stepwell.workflow.numbers import shown
from stepwell.workflow.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Fault = tuple[str, str]
"""A place, and why the value there is refused."""
Info = Any
_MOST_NAMES = 12
_LEAVES: dict[type, tuple[str, tuple[str, ...]]] = {
    types.NoneType: ("None", ("NoneType",)),
    types.BoolType: ("bool", ("bool",)),
    types.IntType: ("int", ("int",)),
    types.FloatType: ("float", ("float", "int")),
    types.StrType: ("str", ("str",)),
    types.BytesType: ("bytes", ("bytes",)),
    types.ByteArrayType: ("bytearray", ("bytearray",)),
    types.DateTimeType: ("datetime with a time zone", ("datetime",)),
    types.DateType: ("date", ("date",)),
    types.TimeType: ("time", ("time",)),
    types.TimeDeltaType: ("timedelta", ("timedelta",)),
    types.UUIDType: ("UUID", ("UUID",)),
    types.DecimalType: ("Decimal", ("Decimal",)),
}
"""Types without parts: how they are called, and the classes that are accepted."""
_READ: dict[type, Any] = {
    types.FloatType: float,
    types.BytesType: bytes,
    types.ByteArrayType: bytearray,
    types.DateTimeType: datetime,
    types.DateType: date,
    types.TimeType: time,
    types.TimeDeltaType: timedelta,
    types.DecimalType: Decimal,
}
"""Types that are stored as text or numbers: the classes they are read as."""
_UUID = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
_ITEMS: dict[type, tuple[str, tuple[type, ...]]] = {
    types.ListType: ("list", (list,)),
    types.VarTupleType: ("tuple", (tuple,)),
    types.SetType: ("set", (set,)),
    types.FrozenSetType: ("frozenset", (frozenset,)),
    types.CollectionType: ("list", (list,)),
}
_BOUNDS = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))


def words(info: Info) -> str:  # noqa: PLR0911  one return a kind of type
    """What such a type accepts."""
    kind = type(info)
    if kind in _LEAVES:
        return _LEAVES[kind][0] + _bounds(info)
    if kind in _ITEMS:
        return f"{_ITEMS[kind][0]} of {words(info.item_type)}"
    match info:
        case types.TupleType():
            return f"tuple of ({', '.join(map(words, info.item_types))})"
        case types.DictType():
            return f"dict of {words(info.key_type)} to {words(info.value_type)}"
        case types.EnumType():
            return f"{info.cls.__name__} ({_listed([str(member.value) for member in info.cls])})"
        case types.LiteralType():
            return _listed([repr(value) for value in info.values])
        case types.UnionType():
            return _listed([words(one) for one in info.types])
        case types.CustomType() if info.cls is object:
            return "any JSON value"
        case _:
            return getattr(getattr(info, "cls", None), "__name__", "any JSON value")


def misfit(value: object, info: Info, place: str, *, stored: bool, hide: bool) -> Fault | None:
    """The first place at which the value does not fit; `hide`: what came is told by its type alone."""
    return _Walk(stored=stored, hide=hide).misfit(value, info, place)


class _Walk:
    """One search for a misfit."""

    def __init__(self, *, stored: bool, hide: bool) -> None:
        self._stored = stored
        self._hide = hide

    def misfit(self, value: Any, info: Info, place: str) -> Fault | None:  # noqa: PLR0911  one return a kind of type
        """The first place at which the value does not fit."""
        kind = type(info)
        if kind in _LEAVES:
            return self._leaf(value, info, place)
        if kind in _ITEMS or kind is types.TupleType:
            return self._items(value, info, place)
        match info:
            case types.DictType():
                return self._dict(value, info, place)
            case types.EnumType():
                fits = any(value == one.value for one in info.cls) if self._stored else isinstance(value, info.cls)
                return None if fits else self._refused(value, info, place)
            case types.LiteralType():
                fits = any(value == one and type(value) is type(one) for one in info.values)
                return None if fits else self._refused(value, info, place)
            case types.UnionType():
                return self._union(value, info, place)
            case types.CustomType():
                is_wrong = not self._stored and info.cls is not object and not isinstance(value, info.cls)
                return self._refused(value, info, place) if is_wrong else None
            case types.StructType() | types.DataclassType() | types.TypedDictType() | types.NamedTupleType():
                return self._object(value, info, place)
            case _:
                return None

    def _leaf(self, value: Any, info: Info, place: str) -> Fault | None:
        if self._stored and isinstance(info, types.UUIDType):
            fits = isinstance(value, str) and _UUID.fullmatch(value) is not None
            return None if fits else self._refused(value, info, place)
        if self._stored and type(info) in _READ:
            try:
                value = msgspec.convert(value, _READ[type(info)])
            except (msgspec.ValidationError, ValueError):
                return self._refused(value, info, place)
        accepted = _LEAVES[type(info)][1]
        names = [one.__name__ for one in type(value).__mro__]
        is_other = (names[0] == "bool" and "bool" not in accepted) or (names[0] == "datetime" and accepted == ("date",))
        if is_other or not set(names) & set(accepted):
            return self._refused(value, info, place)
        if isinstance(value, float) and not math.isfinite(value):
            return place, f"must be a finite {words(info)}, got {came(value)}"
        if isinstance(info, types.DateTimeType) and value.utcoffset() is None:
            return self._refused(value, info, place)
        return None if _is_within(value, info) else self._refused(value, info, place)

    def _items(self, value: Any, info: Info, place: str) -> Fault | None:
        is_fixed = isinstance(info, types.TupleType)
        classes = (list,) if self._stored else (tuple,) if is_fixed else _ITEMS[type(info)][1]
        if not isinstance(value, classes):
            return self._refused(value, info, place)
        given = list(cast("Iterable[Any]", value))
        if is_fixed and len(given) != len(info.item_types):
            return place, f"must be {words(info)}, got {len(given)} items"
        expected = info.item_types if is_fixed else [info.item_type] * len(given)
        for at, (part, one) in enumerate(zip(given, expected, strict=True)):
            found = self.misfit(part, one, f"{place}[{at}]")
            if found is not None:
                return found
        return None

    def _dict(self, value: Any, info: Info, place: str) -> Fault | None:
        if not isinstance(value, dict):
            return self._refused(value, info, place)
        for key, part in value.items():
            wrong = None if self._stored else self.misfit(key, info.key_type, place)
            if wrong is not None:
                return place, f"has a key that must be {words(info.key_type)}, got {self._came(key)}"
            found = self.misfit(part, info.value_type, f"{place}{step(key)}")
            if found is not None:
                return found
        return None

    def _union(self, value: Any, info: Info, place: str) -> Fault | None:
        deepest: Fault | None = None
        for one in info.types:
            found = self.misfit(value, one, place)
            if found is None:
                return None
            if found[0] != place:
                deepest = found
        return deepest or self._refused(value, info, place)

    def _object(self, value: Any, info: Info, place: str) -> Fault | None:
        is_dict = isinstance(info, types.TypedDictType) or self._stored
        is_tuple = isinstance(info, types.NamedTupleType) or getattr(info, "array_like", False)
        if is_tuple and self._stored:
            if not isinstance(value, list):
                return self._refused(value, info, place)
            value, is_dict = dict(zip([field.encode_name for field in info.fields], value, strict=False)), True
        if not isinstance(value, dict if is_dict else info.cls):
            return self._refused(value, info, place)
        for field in info.fields:
            name = field.encode_name if self._stored else field.name
            if is_dict and name not in value:
                if field.required:
                    needed = _listed([one.name for one in info.fields if one.required], "and")
                    return f"{place}{step(name)}", f"is missing; {info.cls.__name__} needs {needed}"
                continue
            part = value[name] if is_dict else getattr(value, name, None)
            found = self.misfit(part, field.type, f"{place}{step(name)}")
            if found is not None:
                return found
        unknown = [] if self._stored or not is_dict else [key for key in value if key not in _names(info)]
        if unknown:
            return (
                f"{place}{step(unknown[0])}",
                f"is no field of {info.cls.__name__}, which has {_listed(_names(info), 'and')}",
            )
        return None

    def _refused(self, value: object, info: Info, place: str) -> Fault:
        return place, f"must be {words(info)}, got {self._came(value)}"

    def _came(self, value: object) -> str:
        return type(value).__name__ if self._hide else came(value)


def came(value: object) -> str:
    """A value as a message shows it, with its type."""
    if value is None or isinstance(value, Secret):
        return "None" if value is None else "a Secret"
    return f"{type(value).__name__} {shown(value)}"


def step(key: Any) -> str:
    """The key as part of a place."""
    return f".{key}" if isinstance(key, str) and key.isidentifier() and key.isascii() else f"[{key!a:.60}]"


def difference(value: Any, copy: Any, place: str, encode: Callable[[Any], bytes], *, hide: bool) -> Fault | None:
    """The first place at which what comes back is not equal; None where only parts without equality differ."""
    if _equal(value, copy):
        return None
    if type(value) is type(copy):
        parts, others = (
            _members(one, encode) if isinstance(one, set | frozenset) else _parts(one) for one in (value, copy)
        )
        if parts is not None and others is not None and parts.keys() == others.keys():
            pairs = ((name, parts[name], others[name]) for name in parts)
            found = (difference(one, two, f"{place}{name}", encode, hide=hide) for name, one, two in pairs)
            return next((one for one in found if one is not None), None)
        if vars(object)["__eq__"] is type(value).__eq__ and encode(value) == encode(copy):
            return None
    return place, "would not come back equal" if hide else f"{came(value)} would come back as {came(copy)}"


def _equal(value: Any, copy: Any) -> bool:
    # By the instant: a datetime in the hour that its zone repeats is equal to no datetime of another zone.
    if getattr(value, "tzinfo", None) is not None and getattr(copy, "tzinfo", None) is not None:
        moments = [getattr(one, "timestamp", None) for one in (value, copy)]
        if all(moments):
            return bool(value - copy == type(value - copy)(0))
    return (value == copy) is True


def _members(values: Iterable[Any], encode: Callable[[Any], bytes]) -> dict[str, Any]:
    """The members of a set by their encoding: it has no order in which to compare them."""
    return {f"[{encode(one).decode()}]": one for one in values}


def _parts(value: Any) -> dict[str, Any] | None:
    """The parts of a value by their step, or None for a value without."""
    if isinstance(value, dict):
        return {step(key): part for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return {f"[{at}]": part for at, part in enumerate(value)}
    names = _field_names(type(value))
    if names is None:
        return None
    extra = getattr(value, "__pydantic_extra__", None) or ()
    return {f".{name}": getattr(value, name, None) for name in (*names, *extra)}


def _field_names(class_: Any) -> list[str] | None:
    for attribute in ("__struct_fields__", "__dataclass_fields__"):
        if hasattr(class_, attribute):
            return list(getattr(class_, attribute))
    if hasattr(class_, "__attrs_attrs__"):
        return [one.name for one in class_.__attrs_attrs__]
    fields = getattr(class_, "__pydantic_fields__", None)
    return None if fields is None else list(fields)


def naive_datetimes(value: Any, place: str) -> Iterator[Fault]:
    """Where a datetime has no time zone."""
    if hasattr(value, "utcoffset") and hasattr(value, "year"):
        if value.utcoffset() is None:
            yield place, f"must be {_LEAVES[types.DateTimeType][0]}, got {came(value)}"
        return
    parts = {f"[{at}]": part for at, part in enumerate(value)} if isinstance(value, (set, frozenset)) else _parts(value)
    for name, part in (parts or {}).items():
        yield from naive_datetimes(part, f"{place}{name}")


def _names(info: Info) -> list[str]:
    return [field.name for field in info.fields]


def _bounds(info: Info) -> str:
    told = [f"{sign} {getattr(info, name)}" for name, sign in _BOUNDS if getattr(info, name, None) is not None]
    for name, sign in (("min_length", "of at least"), ("max_length", "of at most")):
        if getattr(info, name, None) is not None:
            told.append(f"{sign} {getattr(info, name)} characters")
    if getattr(info, "multiple_of", None) is not None:
        told.append(f"a multiple of {info.multiple_of}")
    if getattr(info, "pattern", None) is not None:
        told.append(f"that matches {info.pattern!r}")
    return f" {' and '.join(told)}" if told else ""


def _is_within(value: Any, info: Info) -> bool:
    """Whether the value keeps the limits of its type."""
    least, most = getattr(info, "min_length", None), getattr(info, "max_length", None)
    if (least is not None and len(value) < least) or (most is not None and len(value) > most):
        return False
    if getattr(info, "pattern", None) is not None and re.search(info.pattern, value) is None:
        return False
    limits = {name: getattr(info, name, None) for name in ("gt", "ge", "lt", "le", "multiple_of")}
    return not (
        (limits["gt"] is not None and not value > limits["gt"])
        or (limits["ge"] is not None and not value >= limits["ge"])
        or (limits["lt"] is not None and not value < limits["lt"])
        or (limits["le"] is not None and not value <= limits["le"])
        or (limits["multiple_of"] is not None and value % limits["multiple_of"] != 0)
    )


def _listed(parts: list[str], word: str = "or") -> str:
    if len(parts) > _MOST_NAMES:
        return f"{', '.join(parts[:_MOST_NAMES])} … ({len(parts)} in all)"
    return f"{', '.join(parts[:-1])} {word} {parts[-1]}" if len(parts) > 1 else "".join(parts)
