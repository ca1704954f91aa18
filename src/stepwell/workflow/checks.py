"""The checks of what the builder's methods are given; each raises DefinitionError that begins with `where`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

from stepwell.errors import DefinitionError
from stepwell.workflow.durations import instant, micros
from stepwell.workflow.nodes import Branch, Function
from stepwell.workflow.numbers import shown
from stepwell.workflow.policy import POLICY_OPTIONS, Policy, PolicyOptions, policy_from

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


def checked_name(name: object, what: str) -> str:
    """The name. Raises DefinitionError, beginning with `what`, for anything else."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(f"{what} must be 1 to 100 ASCII letters, digits or _ - . :, got {shown(name)}.")
    return str(name)


def branches_from(where: str, option: str, given: object) -> Mapping[str, Branch]:
    """The branches by name; raises DefinitionError for anything but a mapping of names to handlers."""
    if not isinstance(given, Mapping):
        raise DefinitionError(f"{where}: {option} must be a mapping of names to handlers, got {shown(given)}.")
    if not given:
        raise DefinitionError(f"{where}: {option} must not be empty.")
    branches: dict[str, Branch] = {}
    for name, branch in given.items():
        checked_name(name, f"{where}: a name in its {option}")
        if not isinstance(branch, Branch) and not callable(branch):
            raise DefinitionError(f'{where}: "{name}" must be a function or a Branch, got {shown(branch)}.')
        branches[name] = branch if isinstance(branch, Branch) else Branch(branch)
    return MappingProxyType(branches)


def check_functions(where: str, **given: object) -> None:
    """Raises DefinitionError for an option that is given and not a function."""
    for option, function in given.items():
        if function is not None and not callable(function):
            raise DefinitionError(f"{where}: {option} must be a function, got {shown(function)}.")


def function_from(where: str, option: str, function: object) -> Function:
    """The function; raises DefinitionError for anything else."""
    if not callable(function):
        raise DefinitionError(f"{where}: {option} must be a function, got {shown(function)}.")
    return function


def check_options(where: str, unknown: Mapping[str, object], *known: str) -> None:
    """Raises DefinitionError for an option that the node does not have."""
    for option in unknown:
        raise DefinitionError(f'{where} has no option "{option}". Known options: {", ".join(known)}.')


def checked_policy(where: str, options: PolicyOptions, *known: str) -> Policy:
    """The policy of these options; raises DefinitionError for an option that is not `known` and not a policy's."""
    check_options(
        where, {name: value for name, value in options.items() if name not in POLICY_OPTIONS}, *known, *POLICY_OPTIONS
    )
    return policy_from(where, options)


def check_wait(where: str, option: str, pause: object) -> None:
    """Raises DefinitionError for what is not a duration, an aware datetime or a function."""
    if isinstance(pause, type) or not (callable(pause) or isinstance(pause, (datetime, timedelta, int, float))):
        kinds = "a duration, an aware datetime or a function giving one"
        raise DefinitionError(f"{where}: {option} must be {kinds}, got {shown(pause)}.")
    try:
        if isinstance(pause, datetime):
            instant(pause, option)
        elif not callable(pause):
            micros(pause, option)
    except ValueError as error:
        raise DefinitionError(f"{where}: {error}.") from None
