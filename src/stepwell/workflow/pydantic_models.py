"""Pydantic models as declared types: how one is stored, read and described; nothing here is used without them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import msgspec

from stepwell.errors import DefinitionError
from stepwell.workflow.numbers import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell.workflow.secret import Secret


def is_model(type_: object) -> bool:
    """Whether it is a class of pydantic's models. Pydantic need not be there to answer."""
    return isinstance(type_, type) and hasattr(type_, "__pydantic_serializer__") and hasattr(type_, "model_validate")


def dump(model: Any) -> bytes:
    """The model as JSON, by its own serializer; raises where that would warn."""
    dumped: bytes = type(model).__pydantic_serializer__.to_json(model, by_alias=True, round_trip=True, warnings="error")
    return dumped


def load(model: Any, data: bytes) -> Any:
    """The model of this JSON; raises pydantic's ValidationError."""
    return model.__pydantic_validator__.validate_json(data)


class Adapter:
    """Encodes and decodes a type that pydantic alone can tell apart, such as a union of models; made once a type."""

    def __init__(self, annotation: Any) -> None:
        try:
            from pydantic import TypeAdapter  # noqa: PLC0415  only where a model is declared
        except ImportError:  # pragma: no cover  a model cannot exist without it
            raise DefinitionError("Types of pydantic need the extra: pip install stepwell[pydantic].") from None
        self._adapter = TypeAdapter(annotation)
        self.decode: Callable[[bytes], Any] = self._adapter.validate_json

    def encode(self, value: Any) -> bytes:
        """The value as JSON."""
        return self._adapter.dump_json(value, by_alias=True, round_trip=True, warnings="error")

    def schema(self) -> dict[str, Any]:
        """The JSON schema of the type."""
        return self._adapter.json_schema()


def reasons(error: BaseException, place: str, name: str) -> tuple[str, str] | None:
    """Where a value does not fit a model and why, in our words; None for an error that is not pydantic's."""
    told = getattr(error, "errors", None)
    if not callable(told) or type(error).__name__ != "ValidationError":
        return None
    first = told(include_url=False, include_context=False)[0]
    for part in first["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}"
    if first["type"] == "missing":
        return place, f"is missing, which {name} needs"
    if first["type"] == "extra_forbidden":
        return place, f"is no field of {name}"
    wanted = str(first["msg"])
    for begin in ("Input should be ", "Value error, ", "Assertion failed, "):
        wanted = wanted.removeprefix(begin)
    came = "" if _is_hidden(first["input"]) else f" {shown(first['input'])}"
    return place, f"must be {wanted[:1].lower()}{wanted[1:]}, got {type(first['input']).__name__}{came}"


def secret_schema(secret: type[Secret[Any]], source: Any, handler: Callable[[Any], Any]) -> Any:
    """The core schema of a `Secret[T]` field: read as T, written as T, described as what is not to be shown."""
    from pydantic_core import core_schema  # noqa: PLC0415  only where a model has such a field

    (inner,) = get_args(source) or (Any,)
    wrapped = core_schema.no_info_after_validator_function(secret, handler(inner))
    return core_schema.union_schema(
        [core_schema.is_instance_schema(secret), wrapped],
        mode="left_to_right",
        serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value.reveal(), when_used="json"),
        metadata={"pydantic_js_updates": {"writeOnly": True, "format": "password"}},
    )


def raw(model: Any) -> msgspec.Raw:
    """The model as a part of another value."""
    return msgspec.Raw(dump(model))


def _is_hidden(value: object) -> bool:
    return not isinstance(value, (str, int, float, bool, type(None)))
