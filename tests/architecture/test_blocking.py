"""Tests that the blocking face has the calls of `Durable`, with the same parameters and types, and no others."""

from __future__ import annotations

import inspect
from typing import get_overloads

import pytest

from stepwell import BlockingDurable, Durable

APART = {"open", "close", "worker"}
"""What opens, closes and works: contexts of their own."""


def calls_of(owner: type) -> set[str]:
    """The names of its public methods."""
    return {name for name, member in vars(owner).items() if inspect.isfunction(member) and not name.startswith("_")}


def overloads(owner: type, name: str) -> list[inspect.Signature]:
    """The signatures that type checkers know of a method beside its own."""
    return [inspect.signature(one) for one in get_overloads(getattr(owner, name))]


AWAITED = {name for name in calls_of(Durable) if inspect.iscoroutinefunction(getattr(Durable, name))}


def test_each_awaited_call_has_a_blocking_one_and_there_are_no_others() -> None:
    assert calls_of(BlockingDurable) == AWAITED | {"worker"}


@pytest.mark.parametrize("name", sorted(AWAITED - APART))
def test_a_blocking_call_has_the_parameters_and_the_type_of_the_awaited_one(name: str) -> None:
    assert inspect.signature(getattr(BlockingDurable, name)) == inspect.signature(getattr(Durable, name))
    assert overloads(BlockingDurable, name) == overloads(Durable, name)
    assert inspect.getdoc(getattr(BlockingDurable, name)) == f"As `Durable.{name}`."


def test_a_blocking_worker_has_the_parameters_of_the_awaited_one() -> None:
    blocking, awaited = inspect.signature(BlockingDurable.worker), inspect.signature(Durable.worker)

    assert blocking.parameters == awaited.parameters
    assert f"AbstractAsync{blocking.return_annotation.removeprefix('Abstract')}" == awaited.return_annotation
