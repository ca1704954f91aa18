"""Which parts of a JSON value are secret, by the schema of its type, where no `Secret` is there to mask itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.workflow.secret import MASK

if TYPE_CHECKING:
    from collections.abc import Mapping

_ALTERNATIVES = ("anyOf", "oneOf", "allOf")


def hidden(value: Any, schema: Mapping[str, Any] | None) -> Any:
    """A copy of a JSON value with `***` for each part that its schema has as secret."""
    return value if schema is None else _hidden(value, schema, schema.get("$defs", {}), frozenset())


def without_secret_defaults(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy of a schema without each default that has a secret part."""
    found: dict[str, Any] = _without_defaults(schema, schema.get("$defs", {}))
    return found


def _without_defaults(part: Any, parts: Mapping[str, Any]) -> Any:
    if isinstance(part, list):
        return [_without_defaults(one, parts) for one in part]
    if not isinstance(part, dict):
        return part
    is_told = "default" in part and _hidden(part["default"], part, parts, frozenset()) != part["default"]
    return {name: _without_defaults(one, parts) for name, one in part.items() if name != "default" or not is_told}


def _hidden(value: Any, schema: Any, parts: Mapping[str, Any], within: frozenset[str]) -> Any:
    """`within`: the named parts that this very value is looked at by, so that a part that refers to itself ends."""
    if value is None or not isinstance(schema, dict):
        return value
    if schema.get("writeOnly") and schema.get("format") == "password":
        return MASK
    parts = schema.get("$defs", parts)
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    if name and name not in within:
        value = _hidden(value, parts.get(name), parts, within | {name})
    for word in _ALTERNATIVES:
        for one in schema.get(word, ()):
            value = _hidden(value, one, parts, within)
    if isinstance(value, dict):
        own, others = schema.get("properties", {}), schema.get("additionalProperties")
        return {key: _hidden(part, own.get(key, others), parts, frozenset()) for key, part in value.items()}
    if isinstance(value, list):
        first, others = schema.get("prefixItems", ()), schema.get("items")
        return [
            _hidden(part, first[at] if at < len(first) else others, parts, frozenset()) for at, part in enumerate(value)
        ]
    return value
