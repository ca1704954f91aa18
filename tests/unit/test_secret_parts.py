"""What is masked in plain JSON, by the schema of a type."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import pytest

from stepwell import Secret
from stepwell.workflow.declared import DeclaredType
from stepwell.workflow.secret_parts import hidden


class Card(msgspec.Struct, rename="camel"):
    card_number: Secret[str]
    holder: str = ""


class Tree(msgspec.Struct):
    pin: Secret[int] | None
    children: list[Tree] = []


class Pair(NamedTuple):
    name: str
    pin: Secret[int]


class Ant(msgspec.Struct, tag=True):
    token: Secret[str]


class Bee(msgspec.Struct, tag=True):
    token: str


@pytest.mark.parametrize(
    ("type_", "stored", "shown"),
    [
        (Secret[int], 7, "***"),
        (Secret[int] | None, None, None),
        (list[Secret[int]], [1, 2], ["***", "***"]),
        (dict[str, Secret[int]], {"a": 1}, {"a": "***"}),
        (dict[str, Card], {"a": {"cardNumber": "4", "holder": "b"}}, {"a": {"cardNumber": "***", "holder": "b"}}),
        (Card, {"cardNumber": {"not": "text"}, "more": 1}, {"cardNumber": "***", "more": 1}),
        (Card, ["of", "another", "form"], ["of", "another", "form"]),
        (
            Tree,
            {"pin": 1, "children": [{"pin": None, "children": [{"pin": 2}]}]},
            {"pin": "***", "children": [{"pin": None, "children": [{"pin": "***"}]}]},
        ),
        (Pair, ["a", 7], ["a", "***"]),
        (tuple[Secret[int], int], [1, 2], ["***", 2]),
        (Secret[Card], {"cardNumber": "4"}, "***"),
        (Ant | Bee, {"type": "Ant", "token": "a"}, {"type": "Ant", "token": "***"}),
        (int, 7, 7),
    ],
)
def test_what_is_declared_secret_is_masked_and_nothing_else(type_: Any, stored: Any, shown: Any) -> None:
    schema = DeclaredType(type_).schema()
    assert hidden(stored, schema) == shown


def test_a_part_that_is_nothing_but_itself_ends() -> None:
    schema = {"$ref": "#/$defs/A", "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/B"}]}, "B": {"$ref": "#/$defs/A"}}}
    assert hidden({"a": 1}, schema) == {"a": 1}


def test_without_a_schema_nothing_is_masked() -> None:
    assert hidden({"a": 1}, None) == {"a": 1}
