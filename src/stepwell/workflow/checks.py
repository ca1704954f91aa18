"""The checks of what the builder's methods are given; each raises DefinitionError that begins with `where`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, cast

from stepwell.errors import DefinitionError
from stepwell.workflow.annotations import check_arity, types_of
from stepwell.workflow.durations import instant, micros
from stepwell.workflow.nodes import Branch, Function, branch_of
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
        there = f'{where}: "{name}"'
        one = branch if isinstance(branch, Branch) else Branch(branch)
        check_arity(there, "handler", one.handler, "ctx")
        if one.compensate is not None:
            check_arity(there, "compensate", one.compensate, "ctx")
        branches[name] = branch_of(one, one.handler, one.compensate, types_of(there, one.handler, one.options))
    return MappingProxyType(branches)


def check_functions(where: str, arguments: str = "ctx", **given: object) -> None:
    """Raises DefinitionError for an option that is given and no function that takes these arguments."""
    for option, function in given.items():
        if function is not None:
            function_from(where, option, function, arguments)


def function_from(where: str, option: str, function: object, arguments: str = "ctx") -> Function:
    """The function; raises DefinitionError for anything that cannot be called with these arguments."""
    if not callable(function):
        raise DefinitionError(f"{where}: {option} must be a function, got {shown(function)}.")
    check_arity(where, option, function, arguments)
    return function


def check_options(where: str, unknown: Mapping[str, object], *known: str) -> None:
    """Raises DefinitionError for an option that the node does not have."""
    for option in unknown:
        raise DefinitionError(f'{where} has no option "{option}". Known options: {", ".join(known)}.')


def checked_policy(where: str, options: Mapping[str, Any], *known: str) -> Policy:
    """The policy of these options; raises DefinitionError for an option that is not `known` and not a policy's."""
    check_options(
        where,
        {name: value for name, value in options.items() if name not in {*POLICY_OPTIONS, *known}},
        *known,
        *POLICY_OPTIONS,
    )
    return policy_from(where, cast("PolicyOptions", options))


def check_wait(where: str, option: str, pause: object, arguments: str = "ctx") -> None:
    """Raises DefinitionError for what is not a duration, an aware datetime or a function of these arguments."""
    if isinstance(pause, type) or not (callable(pause) or isinstance(pause, (datetime, timedelta, int, float))):
        kinds = "a duration, an aware datetime or a function giving one"
        raise DefinitionError(f"{where}: {option} must be {kinds}, got {shown(pause)}.")
    if callable(pause):
        check_arity(where, option, pause, arguments)
    try:
        if isinstance(pause, datetime):
            instant(pause, option)
        elif not callable(pause):
            micros(pause, option)
    except ValueError as error:
        raise DefinitionError(f"{where}: {error}.") from None
