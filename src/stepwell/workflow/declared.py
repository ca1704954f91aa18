"""Declared types: how a value of a type is checked, stored as JSON and given back; made when a workflow is built.

msgspec converts; what it does not know is handed to an adapter, which is asked by its class. A type that cannot be told
apart from its JSON, or not be converted at all, is refused here, so that no value can be stored that is not understood
when it is read. What is not declared has no such object, and keeps the JSON rule at its cost.
"""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass
from types import UnionType
from typing import TYPE_CHECKING, Any, Protocol, get_args, get_origin

import msgspec

from stepwell.errors import DefinitionError
from stepwell.workflow.faults import Fault, came, difference, misfit, naive_datetimes, words
from stepwell.workflow.numbers import shown
from stepwell.workflow.pydantic_models import Adapter, dump, is_model, load, raw, reasons
from stepwell.workflow.secret import Secret
from stepwell.workflow.secret_parts import without_secret_defaults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

UNDECLARED: tuple[Any, ...] = (Any, object, dict, list, typing.Dict, typing.List)  # noqa: UP006  as users write them
"""Annotations that say no more than the JSON rule does."""
_NULL = b"null"
_SCALARS = (str, int, bool, type(None))
_NAIVE = re.compile(rb'"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"')


class ValueType(Protocol):
    """By which a stored value is given back."""

    @property
    def name(self) -> str:
        """What the type is called."""

    @property
    def takes_none(self) -> bool:
        """Whether None is such a value."""

    @property
    def decode(self) -> Callable[[bytes], Any]:
        """A fresh copy of a stored value; raises what the converter raises."""

    def why_unreadable(self, stored: Any, place: str, error: BaseException) -> Fault:
        """Where stored JSON does not fit the type, and why; `error` is what was raised by `decode`."""


class DeclaredType:
    """A type that values are converted by."""

    __slots__ = (
        "_adapter",
        "_info",
        "annotation",
        "decode",
        "encode",
        "has_datetime",
        "is_plain",
        "name",
        "takes_none",
    )

    def __init__(self, annotation: Any) -> None:
        """Raises TypeError, with why, for a type that cannot be converted or told apart."""
        self.annotation: Any = annotation
        self.name: str = name_of(annotation)
        self.decode: Callable[[bytes], Any]
        self.encode: Callable[[Any], bytes]
        self._info: Any = None
        self._adapter: Adapter | None = None
        self.has_datetime: bool = False
        self.is_plain: bool = any(annotation is one for one in _SCALARS)
        """Whether what the JSON rule accepts of this very class comes back as it was."""
        if is_model(annotation):
            self.encode, self.decode = self._dump, self._load
        else:
            self._convert(annotation)
        self.takes_none: bool = self._takes_none()

    def is_same(self, value: Any, copy: Any) -> bool:
        """Whether a value that is not equal to its copy differs in nothing but parts that have no equality."""
        return difference(value, copy, "", _encode, hide=True) is None

    def why_refused(self, value: Any, place: str, error: BaseException | None) -> Fault:
        """Where a value does not fit the type, and why; `error` is what was raised, if anything was."""
        hide = self.has_secret
        found = None
        try:
            found = self._misfit(value, place, stored=False)
            if found is None and error is not None:
                found = reasons(error, place, self.name)
            if found is None:
                found = difference(value, self.decode(self.encode(value)), place, _encode, hide=hide)
        except Exception as broken:  # noqa: BLE001  a value's own methods may raise anything
            error = error or broken
        what = type(value).__name__ if hide else came(value)
        return found or (place, f"must be a {self.accepted} that comes back equal from JSON, got {what}")

    def why_unreadable(self, stored: Any, place: str, error: BaseException) -> Fault:
        """Where stored JSON does not fit the type, and why."""
        found = self._misfit(stored, place, stored=True) or reasons(error, place, self.name)
        return found or (place, f"must be {self.accepted}, got {type(stored).__name__}")

    def naive(self, value: Any, data: bytes, place: str) -> Fault | None:
        """Where a datetime of the value, encoded as `data`, has no time zone."""
        if not self.has_datetime or _NAIVE.search(data) is None:
            return None
        return next(naive_datetimes(value, place), None)

    @property
    def accepted(self) -> str:
        """What it accepts, in words."""
        return self.name if self._info is None else words(self._info)

    @property
    def has_secret(self) -> bool:
        """Whether a part of it is never shown."""
        return any(part is Secret for part in self._parts())

    def schema(self) -> dict[str, Any]:
        """The JSON schema of what is stored, without the defaults of what is secret."""
        if self._adapter is not None:
            found = self._adapter.schema()
        else:
            found = self.annotation.model_json_schema() if self._info is None else _schema(self.annotation)
        return without_secret_defaults(dict(found))

    def _convert(self, annotation: Any) -> None:
        try:
            decoder = msgspec.json.Decoder(annotation, dec_hook=_from_json)
            self._info = msgspec.inspect.type_info(annotation)
        except TypeError:
            if not any(is_model(part) for part in _arguments(annotation)):
                raise
            self._adapter = Adapter(annotation)
            self.encode, self.decode = self._adapter.encode, self._adapter.decode
            return
        self.encode, self.decode = _encode, decoder.decode
        for part in self._parts():
            if part is not object and part is not Secret and not is_model(part):
                raise TypeError(f"{part.__name__} has no form as JSON from which it could be told again")
        self.has_datetime = _has_datetime(self._info)

    def _parts(self) -> Iterator[type]:
        """The classes in it that msgspec leaves to others."""
        if self._info is not None:
            yield from (one.cls for one in _infos(self._info) if isinstance(one, msgspec.inspect.CustomType))

    def _misfit(self, value: Any, place: str, *, stored: bool) -> Fault | None:
        if self._info is not None:
            return misfit(value, self._info, place, stored=stored, hide=self.has_secret)
        if stored or self._adapter is not None or isinstance(value, self.annotation):
            return None
        return place, f"must be {self.name}, got {type(value).__name__} {shown(value)}"

    def _dump(self, value: Any) -> bytes:
        if not isinstance(value, self.annotation):
            raise TypeError(f"not a {self.name}")
        return dump(value)

    def _load(self, data: bytes) -> Any:
        return load(self.annotation, data)

    def _takes_none(self) -> bool:
        try:
            return self.decode(b"null") is None
        except Exception:  # noqa: BLE001  a type's own checks may raise anything
            return False


@dataclass(frozen=True, slots=True)
class FromJson:
    """A value that came as JSON, by a command line or a request: read as the declared type."""

    value: Any


def declared(annotation: Any, where: str) -> DeclaredType | None:
    """The type, or None for one that says no more than the JSON rule; raises DefinitionError that begins so."""
    if any(annotation is one for one in UNDECLARED):
        return None
    try:
        return DeclaredType(type(None) if annotation is None else annotation)
    except DefinitionError as error:
        raise DefinitionError(f"{where}: {error}") from None
    except Exception as error:  # noqa: BLE001  a class's own code may raise anything when it is looked at
        raise DefinitionError(f"{where}: the type {name_of(annotation)} cannot be used: {_why(error)}.") from None


class Results:
    """The results of a child workflow: each by the type that its definition declares for it."""

    takes_none = False

    def __init__(self, name: str, types: Callable[[], Mapping[str, ValueType]]) -> None:
        self.name: str = f"the results of {name}"
        self._types = types

    def decode(self, data: bytes) -> Any:
        """The results by name; None of a node that was skipped, whatever it is declared to give."""
        types = self._types()
        return {
            name: types[name].decode(bytes(part)) if name in types and bytes(part) != _NULL else _decode(part)
            for name, part in _split(data).items()
        }

    def why_unreadable(self, stored: Any, place: str, error: BaseException) -> Fault:
        """The first result that does not fit its type."""
        types = self._types()
        for name, part in stored.items():
            try:
                if name in types and part is not None:
                    types[name].decode(_encode(part))
            except Exception as broken:  # noqa: BLE001  a type's own checks may raise anything
                return types[name].why_unreadable(part, f"{place}.{name}", broken)
        return place, f"must be {self.name}: {type(error).__name__}"


def name_of(annotation: Any) -> str:
    """How messages call a type: as its user writes it, without modules."""
    if annotation is None or annotation is type(None):
        return "None"
    if get_origin(annotation) in {typing.Union, UnionType}:
        return " | ".join(map(name_of, get_args(annotation)))
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    return re.sub(r"\b(?:[A-Za-z_]\w*\.|<locals>\.)+", "", str(annotation))


def _why(error: Exception) -> str:
    text = str(error)
    if "unions may not contain more than one" in text or "union" in text.lower():
        return "its alternatives cannot be told apart from their JSON"
    if isinstance(error, NameError):
        return f"{text}, which one of its fields is declared with"
    return text.split(" - type ", maxsplit=1)[0].rstrip(".") or type(error).__name__


def _to_json(value: Any) -> Any:
    """What msgspec does not know, as what it knows."""
    if isinstance(value, Secret):
        return value.reveal()
    if is_model(type(value)):
        return raw(value)
    raise TypeError(f"{type(value).__name__} has no form as JSON")


def _from_json(type_: Any, part: Any) -> Any:
    """A part that msgspec does not know, from its JSON."""
    if type_ is object:
        return part
    if type_ is Secret or get_origin(type_) is Secret:
        (inner,) = get_args(type_) or (Any,)
        return Secret(msgspec.convert(part, inner, dec_hook=_from_json, str_keys=True))
    return load(type_, _encode(part))


_encode = msgspec.json.Encoder(enc_hook=_to_json).encode
_decode = msgspec.json.Decoder().decode
_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _infos(info: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """Every description within one, each once: a type may contain itself."""
    seen = set() if seen is None else seen
    if id(info) in seen or not isinstance(info, msgspec.inspect.Type):
        return
    seen.add(id(info))
    yield info
    for name in ("item_type", "key_type", "value_type", "type"):
        yield from _infos(getattr(info, name, None), seen)
    for name in ("types", "item_types"):
        for one in getattr(info, name, ()):
            yield from _infos(one, seen)
    for field in getattr(info, "fields", ()):
        yield from _infos(field.type, seen)


def _has_datetime(info: Any) -> bool:
    return any(isinstance(one, msgspec.inspect.DateTimeType) for one in _infos(info))


def _arguments(annotation: Any) -> Iterator[Any]:
    yield annotation
    for one in get_args(annotation):
        yield from _arguments(one)


def _schema(annotation: Any) -> dict[str, Any]:
    try:
        found = msgspec.json.schema(annotation, schema_hook=_schema_of)
    except TypeError:
        found = _schema_without_defaults(annotation)
    definitions = found.get("$defs", {})
    for part in list(definitions.values()):
        _lift(part, definitions)
    _lift({name: part for name, part in found.items() if name != "$defs"}, definitions)
    return {**found, "$defs": definitions} if definitions else found


def _schema_without_defaults(annotation: Any) -> dict[str, Any]:
    """The schema of a type with defaults that msgspec cannot write, such as a Secret: those are left out of it.

    msgspec takes a type only, and writes a default without asking any hook, so its own generator is given the
    description of the type.
    """
    from msgspec import _json_schema as generator  # noqa: PLC0415  no public way leads there

    info = msgspec.inspect.type_info(annotation)
    for one in _infos(info):
        for field in getattr(one, "fields", ()):
            if not _can_be_written(field.default):
                field.default = msgspec.NODEFAULT
    components = generator._collect_component_types([info])  # noqa: SLF001  as above
    names = generator._build_name_map(components)  # noqa: SLF001  as above
    made = generator._SchemaGenerator(names, _schema_of)  # noqa: SLF001  as above
    found = dict(made.to_schema(info))
    if components:
        found["$defs"] = {names[cls]: made.to_schema(part, False) for cls, part in components.items()}  # noqa: FBT003  its signature
    return found


def _can_be_written(default: Any) -> bool:
    try:
        msgspec.to_builtins(default, str_keys=True)
    except TypeError:
        return default is msgspec.NODEFAULT
    return True


def _lift(part: Any, definitions: dict[str, Any]) -> None:
    """Moves the definitions of a model within the schema to where its references point."""
    if isinstance(part, dict):
        definitions.update(part.pop("$defs", {}))
    for one in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        _lift(one, definitions)


def _schema_of(type_: Any) -> dict[str, Any]:
    if type_ is object:
        return {}
    if type_ is Secret or get_origin(type_) is Secret:
        (inner,) = get_args(type_) or (Any,)
        return {**_schema(inner), "format": "password", "writeOnly": True}
    return dict(type_.model_json_schema())
