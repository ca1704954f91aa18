"""JSON schemas as annotations that FastAPI takes: their named parts become components of the app's OpenAPI document.

A schema comes with its parts under `$defs`, and refers to them, and they to each other and to themselves, by
`#/$defs/NAME`. In a document those references would lead nowhere, so every part becomes a definition of its own for
pydantic, which gives it a name that no other component has and sets the references right.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, cast

from pydantic_core import core_schema

from stepwell.ext.http_access import encoded
from stepwell.reading.records import RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import GetJsonSchemaHandler

_TEXT = {"type": "string"}
_TEXT_OR_NULL = {"type": ["string", "null"]}
_MOMENT = {"type": "string", "format": "date-time"}
_MOMENT_OR_NULL = {"type": ["string", "null"], "format": "date-time"}
_STATUS = {"type": "string", "enum": [*RunStatus]}
_PART = re.compile(r"#/\$defs/(.+)")


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties]}


_FAILURE = {"anyOf": [_object(node=_TEXT, type=_TEXT, message=_TEXT), {"type": "null"}]}
STARTED = _object(run_id=_TEXT, status=_STATUS, created={"type": "boolean"})
DELIVERED = _object(accepted={"type": "boolean"}, status=_STATUS, expected={"type": "boolean"})
RUN = _object(
    run_id=_TEXT,
    key=_TEXT_OR_NULL,
    workflow_name=_TEXT,
    status=_STATUS,
    current_step={"type": "integer"},
    current_node=_TEXT_OR_NULL,
    total_steps={"type": "integer"},
    awaiting_signal=_TEXT_OR_NULL,
    awaiting_signals={"type": "array", "items": _TEXT},
    wake_at=_MOMENT_OR_NULL,
    input={},
    results={"type": ["object", "null"]},
    error=_FAILURE,
    parent_run_id=_TEXT_OR_NULL,
    children={"type": ["array", "null"], "items": {"type": "object"}},
    compensated={"type": "array", "items": _TEXT},
    created_at=_MOMENT,
    updated_at=_MOMENT,
    finished_at=_MOMENT_OR_NULL,
)
_ERROR = _object(detail={"anyOf": [_object(code=_TEXT, message=_TEXT), _TEXT, {"type": "array", "items": {}}]})
_REFUSALS = {
    401: "The caller is unknown",
    403: "The caller may not do this",
    404: "There is no such run or workflow",
    413: "The body is too large",
    415: "The body is not JSON",
    422: "The body, a name or a key is not accepted",
    503: "The store is not available",
}


def described(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    """What a route says of one of its responses."""
    return {"model": annotation_for(name, schema), "description": text}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route says of its refusals."""
    return {status: described("Refusal", _ERROR, _REFUSALS[status]) for status in statuses}


def object_of(title: str, properties: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object with these properties, none of them required; each may come with parts of its own."""
    inner, parts = _gathered(properties)
    return {"title": title, "type": "object", "properties": inner, "$defs": parts}


def any_of(title: str, choices: dict[str, Any]) -> dict[str, Any]:
    """The schema of what fits one of these, which are named by what they are of; each may come with parts."""
    inner, parts = _gathered(choices)
    different = [*{encoded(choice): choice for choice in inner.values()}.values()]
    if len(different) == 1:
        return {**different[0], "$defs": parts}
    return {"title": title, "anyOf": different, "$defs": parts}


def _gathered(schemas: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """These schemas without their parts, and all parts; a part that is called like another one gets another name."""
    inner: dict[str, Any] = {}
    parts: dict[str, Any] = {}
    for name, schema in schemas.items():
        own: dict[str, Any] = schema.get("$defs", {})
        names = {part: part if parts.get(part, own[part]) == own[part] else f"{name}.{part}" for part in own}
        inner[name] = _renamed({key: value for key, value in schema.items() if key != "$defs"}, names)
        parts |= {names[part]: _renamed(value, names) for part, value in own.items()}
    return inner, parts


def _renamed(part: Any, names: dict[str, str]) -> Any:
    if isinstance(part, str):
        found = _PART.fullmatch(part)
        return f"#/$defs/{names.get(found[1], found[1])}" if found is not None else part
    if isinstance(part, list):
        return [_renamed(one, names) for one in part]
    return {key: _renamed(value, names) for key, value in part.items()} if isinstance(part, dict) else part


def run_with(results: dict[str, Any]) -> dict[str, Any]:
    """The schema of a run, with the results that the workflows of these names declare."""
    if not results:
        return RUN
    choices = {name: object_of(f"{name} results", declared) for name, declared in results.items()}
    found = any_of("Results", {**choices, "others": RUN["properties"]["results"]})
    parts = found.pop("$defs")
    return {**RUN, "properties": {**RUN["properties"], "results": found}, "$defs": parts}


def annotation_for(name: str, schema: dict[str, Any]) -> Any:
    """Returns a type for annotations whose JSON schema is this one; any value is accepted for it.

    `name`: what the component is called if the schema has no title and is not a reference to one of its parts.
    """
    parts: dict[str, Any] = dict(schema.get("$defs", {}))
    top = {key: value for key, value in schema.items() if key != "$defs"}
    only = _PART.fullmatch(top["$ref"]) if set(top) == {"$ref"} else None
    if only is not None and only[1] in parts:
        name = only[1]
    else:
        name = str(top.get("title", name))
        parts[name] = top
    return _Parts(name, parts).annotation()


class _Parts:
    """The parts of a schema, each under a reference of its own in pydantic's form."""

    def __init__(self, top: str, parts: dict[str, Any]) -> None:
        self._top = top
        self._parts = parts
        self._digest = hashlib.sha256(encoded([top, parts])).hexdigest()[:12]

    def annotation(self) -> type[Any]:
        """A class that pydantic asks for the schema."""

        def form(*_: object) -> core_schema.CoreSchema:
            top = core_schema.definition_reference_schema(self._reference(self._top))
            return core_schema.definitions_schema(top, [*map(self._part, self._parts)])

        return type(re.sub(r"\W", "_", self._top), (), {"__get_pydantic_core_schema__": classmethod(form)})

    def _part(self, name: str) -> core_schema.CoreSchema:
        def shown(_: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
            return cast("dict[str, Any]", self._resolved(self._parts[name], handler))

        # The first choice accepts any value. The others are there because pydantic drops a part that nothing refers to,
        # and puts one that is referred to once in the place of the reference.
        used = [core_schema.definition_reference_schema(self._reference(one)) for one in self._used(self._parts[name])]
        return core_schema.union_schema(
            [core_schema.any_schema(), *used, *used],
            mode="left_to_right",
            ref=self._reference(name),
            metadata={"pydantic_js_functions": [shown]},
        )

    def _reference(self, name: str) -> str:
        """Names the part and its origin, and tells it from another one of that name."""
        return f"stepwell.{re.sub(r'[^A-Za-z0-9_-]', '_', name)}:{self._digest}"

    def _found(self, text: str) -> str | None:
        """The part that a text refers to."""
        found = _PART.fullmatch(text)
        return found[1] if found is not None and found[1] in self._parts else None

    def _used(self, part: Any) -> Iterator[str]:
        """The parts that a part refers to, be it by `$ref` or in the mapping of a discriminator."""
        if isinstance(part, str):
            name = self._found(part)
            if name is not None:
                yield name
        elif isinstance(part, list | dict):
            for one in part.values() if isinstance(part, dict) else part:
                yield from self._used(one)

    def _resolved(self, part: Any, handler: GetJsonSchemaHandler) -> Any:
        """The part, with its references as pydantic counts and renames them."""
        if isinstance(part, str):
            name = self._found(part)
            if name is None:
                return part
            return handler(core_schema.definition_reference_schema(self._reference(name)))["$ref"]
        if isinstance(part, list):
            return [self._resolved(one, handler) for one in part]
        if isinstance(part, dict):
            return {key: self._resolved(value, handler) for key, value in part.items()}
        return part
