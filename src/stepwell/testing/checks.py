"""What the harness and `crash_everywhere` are given, checked: a mistake is a DefinitionError of one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stepwell.core.kinds import kind_of
from stepwell.errors import DefinitionError
from stepwell.testing.handlers import names_in
from stepwell.workflow.builder import Workflow


def workflows_of(given: object) -> list[Workflow]:
    """The workflows, of which one may stand alone."""
    found: list[Any] = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    for one in found:
        if not isinstance(one, Workflow):
            raise DefinitionError(f"A workflow is needed, not {one!r}. Give what durable(…) made.")
    return found


def check_mapping(option: str, given: object) -> None:
    """Raises DefinitionError for what gives nothing by name."""
    if not isinstance(given, Mapping):
        raise DefinitionError(f"{option}: a mapping by name is needed, not {given!r}.")


def check_names(option: str, given: Iterable[object], workflows: Iterable[Workflow]) -> None:
    """Raises DefinitionError for a name that no handler or compensator of the workflows goes by."""
    known = [name for workflow in workflows for name in names_in(workflow)]
    every = {one for name in known for one in name.all}
    shown = _listed(one.shown for one in known)
    for name in given:
        if not isinstance(name, str):
            raise DefinitionError(f"{option}: a handler is told by its name, not by {name!r}. Known: {shown}.")
        if name not in every:
            raise DefinitionError(f'{option}: no handler "{name}". Known: {shown}.')


def check_signals(given: Mapping[Any, Any], workflows: Iterable[Workflow]) -> None:
    """Raises DefinitionError for a signal that no node of the workflows can wait for."""
    check_mapping("signals", given)
    nodes = [node for workflow in workflows for node in workflow.nodes]
    signals = [name for node in nodes for name in kind_of(node).signals(node)]
    awaited = [kind_of(node).awaits(node) for node in nodes]
    steps = [one.name for one in awaited if one is not None and one.kind == "signal" and one.name not in signals]
    for name in given:
        if name not in {*signals, *steps}:
            shown = f'"{name}"' if isinstance(name, str) else repr(name)
            raise DefinitionError(
                f"signals: nothing waits for {shown}. Known: {_listed(signals)}, and a step that suspends by its name "
                f"({_listed(steps)}). Correct the name, or give the child that waits in workflows=."
            )


def check_function(option: str, given: object) -> None:
    """Raises DefinitionError for what was given and cannot be called."""
    if given is not None and not callable(given):
        raise DefinitionError(f"{option}: a function is needed, not {given!r}.")


def check_count(option: str, given: object) -> None:
    """Raises DefinitionError for what does not count anything."""
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise DefinitionError(f"{option}: a whole number from 0 on is needed, not {given!r}.")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names)) or "none"
