"""Schemas as annotations: their parts become components, recursive ones too, and never meet others of their name."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest
from fastapi import Body, FastAPI
from pydantic import BaseModel

from stepwell.ext.openapi import annotation_for, any_of, object_of
from tests.ext.test_fastapi import references_in


class Leaf(msgspec.Struct, tag=True):
    up: Node | None = None


class Tip(msgspec.Struct, tag=True):
    weight: float


class Node(msgspec.Struct):
    name: str
    children: list[Node] = []
    part: Leaf | Tip | None = None


class Own(BaseModel):
    """A model of the user's, which is called like a part of a schema below."""

    z: int


def document_of(*schemas: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """The OpenAPI document of an app with a route for each schema, and one with the user's model."""
    app = FastAPI()
    for at, (name, schema) in enumerate(schemas):

        async def route(body: Any = None) -> None: ...

        annotation = annotation_for(name, schema)
        route.__annotations__["body"] = Annotated[annotation, Body()]
        app.add_api_route(f"/{at}", route, methods=["POST"], responses={202: {"model": annotation}})

    @app.post("/own")
    async def own(body: Own) -> Own:
        return body

    return app.openapi()


def body_of(document: dict[str, Any], path: str) -> Any:
    """The schema of a route's body, and of what it refers to."""
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]


NODE = msgspec.json.schema(Node)


@pytest.mark.parametrize(
    "schemas",
    [
        [("Input", NODE)],
        [("Input", NODE), ("Other", NODE)],
        [("Input", {"type": "array", "items": {"$ref": "#/$defs/Node"}, "$defs": NODE["$defs"]})],
        [("Own", {"type": "integer"}), ("Own", {"type": "string"})],
        [("Own", NODE), ("Own", {"$ref": "#/$defs/Own", "$defs": {"Own": {"type": "null"}}})],
        [("a name: with.all-sorts_of things", {"type": "integer"})],
        [("Plain", {})],
    ],
)
def test_every_reference_leads_to_a_component(schemas: list[tuple[str, dict[str, Any]]]) -> None:
    document = document_of(*schemas)

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references_in(document) <= known
    assert "$defs" not in str(document)


def test_a_recursive_type_refers_to_itself() -> None:
    document = document_of(("Input", NODE))

    schema = document["paths"]["/0"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    node = body_of(document, "/0")
    assert node["properties"]["children"]["items"] == {"$ref": schema["$ref"]}
    assert node["required"] == ["name"]


def test_the_mapping_of_a_discriminator_leads_to_components() -> None:
    document = document_of(("Input", NODE))

    mapping = str(document).count("'Tip': '#/components/schemas/")
    assert mapping >= 1


def test_parts_of_the_same_name_are_told_apart() -> None:
    document = document_of(("Own", {"type": "integer"}), ("Own", {"type": "string"}))

    assert body_of(document, "/0") == {"type": "integer"}
    assert body_of(document, "/1") == {"type": "string"}
    assert body_of(document, "/own")["properties"] == {"z": {"title": "Z", "type": "integer"}}


def test_a_schema_that_two_routes_have_is_one_component() -> None:
    document = document_of(("Input", {"type": "integer"}), ("Input", {"type": "integer"}))

    assert [name for name in document["components"]["schemas"] if "Input" in name] == ["Input"]


def test_schemas_that_are_put_together_keep_parts_of_the_same_name_apart() -> None:
    other = {"$ref": "#/$defs/Node", "$defs": {"Node": {"type": "array", "items": {"$ref": "#/$defs/Node"}}}}
    together = object_of("results", {"a": NODE, "b": other, "c": NODE})

    document = document_of(("Results", together))
    assert references_in(document) <= {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    parts = together["$defs"]
    assert set(parts) == {*NODE["$defs"], "b.Node"}
    assert parts["b.Node"] == {"type": "array", "items": {"$ref": "#/$defs/b.Node"}}
    assert together["properties"]["a"] == together["properties"]["c"] == {"$ref": "#/$defs/Node"}


def test_equal_choices_are_one() -> None:
    assert any_of("data", {"a": {"type": "null"}, "b": {"type": "null"}}) == {"type": "null", "$defs": {}}
    assert any_of("data", {"a": {"type": "null"}, "b": {}})["anyOf"] == [{"type": "null"}, {}]
