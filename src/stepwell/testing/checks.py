"""Checks the arguments of the harness and `crash_everywhere`; raises DefinitionError with one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stepwell.core.kinds import kind_of
from stepwell.errors import DefinitionError
from stepwell.testing.handlers import names_in
from stepwell.workflow.builder import Workflow


def workflows_of(given: object) -> list[Workflow]:
    """The workflows as a list; accepts a single one."""
    found: list[Any] = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    for one in found:
        if not isinstance(one, Workflow):
            raise DefinitionError(f"workflows must be what durable(…) returns, got {one!r}.")
    return found


def check_mapping(option: str, given: object) -> None:
    """Raises DefinitionError if `given` is not a mapping."""
    if not isinstance(given, Mapping):
        raise DefinitionError(f"{option} must be a mapping by name, got {given!r}.")


def check_names(option: str, given: Iterable[object], workflows: Iterable[Workflow]) -> None:
    """Raises DefinitionError for a name that no handler or compensator of the workflows has."""
    known = [name for workflow in workflows for name in names_in(workflow)]
    every = {one for name in known for one in name.all}
    shown = _listed(one.shown for one in known)
    for name in given:
        if not isinstance(name, str):
            raise DefinitionError(f"{option}: the name of a handler must be a string, got {name!r}. Known: {shown}.")
        if name not in every:
            raise DefinitionError(f'{option}: no handler "{name}". Known: {shown}.')


def check_signals(given: Mapping[Any, Any], workflows: Iterable[Workflow]) -> None:
    """Raises DefinitionError for a signal that no node of the workflows can wait for."""
    check_mapping("signals", given)
    nodes = [node for workflow in workflows for node in workflow.nodes]
    signals = [name for node in nodes for name in kind_of(node).signals(node)]
    able = [name for node in nodes for name in kind_of(node).suspends_as(node)]
    suspending = [name for name in able if name not in signals]
    for name in given:
        if name not in {*signals, *suspending}:
            shown = f'"{name}"' if isinstance(name, str) else repr(name)
            raise DefinitionError(
                f"signals: nothing waits for {shown}. Known: {_listed(signals)}, and the names of what may suspend "
                f"({_listed(suspending)}). Correct the name, or pass the child that waits in workflows=."
            )


def check_function(option: str, given: object) -> None:
    """Raises DefinitionError if `given` is neither None nor callable."""
    if given is not None and not callable(given):
        raise DefinitionError(f"{option} must be a function, got {given!r}.")


def check_count(option: str, given: object) -> None:
    """Raises DefinitionError if `given` is not an integer >= 0."""
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise DefinitionError(f"{option} must be an integer >= 0, got {given!r}.")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names)) or "none"
