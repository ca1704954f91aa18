"""The builder of workflows: every method checks what it is given, adds one node and returns the same object."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar, Unpack, overload

from stepwell.errors import DefinitionError, PayloadError
from stepwell.workflow.durations import Duration, instant, micros
from stepwell.workflow.nodes import (
    Branch,
    ChildWorkflow,
    Function,
    Loop,
    Node,
    Parallel,
    Route,
    Sleep,
    Step,
    WaitForSignal,
)
from stepwell.workflow.numbers import count, shown
from stepwell.workflow.policy import POLICY_OPTIONS, Policy, PolicyOptions, policy_from

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_UNSET: Any = object()
F = TypeVar("F", bound=Function)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunResult:
    """The return value of `Workflow.run`: the `results` by name, and the `duration`, a timedelta. Frozen."""

    results: dict[str, Any]
    duration: timedelta


class InMemory(Protocol):
    """What a workflow needs from above: to be run without a store, and to have a value checked and encoded."""

    async def run(self, name: str, nodes: tuple[Node, ...], value: object) -> RunResult:
        """Runs these nodes in memory."""

    def encode(self, value: object, place: str) -> bytes:
        """The value as stored JSON; raises PayloadError."""


class _Decorator(Generic[T]):
    """Takes the handler that a builder method was called without, and returns it unchanged."""

    def __init__(self, add: Callable[[Function], T]) -> None:
        self._add = add

    def __call__(self, handler: F) -> F:
        self._add(handler)
        return handler


class Workflow:
    """An ordered list of named nodes, created by `durable(name)`.

    Each builder method adds a node and returns the workflow. It raises DefinitionError for a name that is taken, an
    invalid or unknown option, or a workflow that is registered; then it adds nothing. `name` is the workflow's name.
    """

    def __init__(self, name: str, in_memory: InMemory) -> None:
        self.name = checked_name(name, "A workflow's name")
        self._in_memory = in_memory
        self._nodes: list[Node] = []
        self._taken: dict[str, str] = {}
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Workflow {self.name}: {', '.join(node.name for node in self._nodes) or 'no nodes'}>"

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes in order, as frozen values."""
        return tuple(self._nodes)

    def close(self) -> None:
        """Closes the workflow: no node can be added any more. Registering a workflow closes it."""
        self._is_closed = True

    async def run(self, input: Any = None) -> RunResult:
        """Runs the workflow in memory, without a store, and returns a `RunResult`. Sleeps take real time.

        Raises RunFailedError from the handler's exception, PayloadError for an input that is not JSON, and
        DefinitionError for a node that needs a store.
        """
        return await self._in_memory.run(self.name, self.nodes, input)

    @overload
    def step(
        self,
        name: str,
        handler: Function,
        *,
        compensate: Function | None = None,
        when: Function | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> Workflow: ...
    @overload
    def step(
        self,
        name: str,
        handler: None = None,
        *,
        compensate: Function | None = None,
        when: Function | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> _Decorator[Workflow]: ...
    def step(
        self,
        name: str,
        handler: Function | None = None,
        *,
        compensate: Function | None = None,
        when: Function | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> Workflow | _Decorator[Workflow]:
        """Adds a node that calls `handler(ctx)`, whose return value is its result. Without a handler, a decorator."""
        where = self._where("step", name)
        _functions(where, compensate=compensate, when=when)
        tried = _policy(where, policy, "compensate", "when")

        def add(handler: Function) -> Workflow:
            _functions(where, handler=handler)
            return self._add(where, Step(name, handler, compensate, when, tried))

        return _Decorator(add) if handler is None else add(_given(where, "handler", handler))

    def parallel(
        self,
        name: str,
        entries: Mapping[str, Function | Branch],
        *,
        when: Function | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> Workflow:
        """Adds a node that calls all `entries` concurrently: names with a function or `Branch`, and a result each."""
        where = self._where("parallel", name)
        branches = _branches(where, "entries", entries)
        _functions(where, when=when)
        return self._add(where, Parallel(name, branches, when, _policy(where, policy, "when")))

    def route(
        self,
        name: str,
        resolver: Function,
        branches: Mapping[str, Function | Branch],
        *,
        when: Function | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> Workflow:
        """Adds a node that calls the one of `branches` that `resolver(ctx)` names; its result is the branch's."""
        where = self._where("route", name)
        _functions(where, when=when)
        resolver = _given(where, "resolver", resolver)
        chosen = _branches(where, "branches", branches)
        return self._add(where, Route(name, resolver, chosen, when, _policy(where, policy, "when")))

    @overload
    def loop(
        self,
        name: str,
        handler: Function,
        *,
        max_iterations: int = _UNSET,
        until: Function | None = None,
        feedback: Function | None = None,
        map_input: Function | None = None,
        pause: Duration | datetime | Function | None = None,
        compensate: Function | None = None,
        when: Function | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> Workflow: ...
    @overload
    def loop(
        self,
        name: str,
        handler: None = None,
        *,
        max_iterations: int = _UNSET,
        until: Function | None = None,
        feedback: Function | None = None,
        map_input: Function | None = None,
        pause: Duration | datetime | Function | None = None,
        compensate: Function | None = None,
        when: Function | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> _Decorator[Workflow]: ...
    def loop(
        self,
        name: str,
        handler: Function | None = None,
        *,
        max_iterations: int = _UNSET,
        until: Function | None = None,
        feedback: Function | None = None,
        map_input: Function | None = None,
        pause: Duration | datetime | Function | None = None,
        compensate: Function | None = None,
        when: Function | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> Workflow | _Decorator[Workflow]:
        """Adds a node that calls `handler(input, ctx)` up to `max_iterations` times. Without a handler, a decorator.

        It ends when `until(result, iteration)` is true; its result is that of the last iteration. The next input is
        `feedback(result)`, or the previous input. `pause` is the wait between iterations.
        """
        where = self._where("loop", name)
        most: object = max_iterations
        if most is _UNSET:
            raise DefinitionError(f"{where} needs max_iterations, a whole number from 1.")
        try:
            count(most, "max_iterations")
        except ValueError as error:
            raise DefinitionError(f"{where}: {error}.") from None
        _functions(where, until=until, feedback=feedback, map_input=map_input, compensate=compensate, when=when)
        if pause is not None:
            _check_wait(where, "pause", pause)
        known = ("max_iterations", "until", "feedback", "map_input", "pause", "compensate", "when")
        tried = _policy(where, policy, *known)

        def add(handler: Function) -> Workflow:
            _functions(where, handler=handler)
            given = (until, feedback, map_input, pause, compensate, when)
            return self._add(where, Loop(name, handler, max_iterations, *given, tried))

        return _Decorator(add) if handler is None else add(_given(where, "handler", handler))

    def sleep(
        self,
        name: str,
        duration: Duration | datetime | Function,
        *,
        when: Function | None = None,
        **unknown: object,
    ) -> Workflow:
        """Adds a durable timer: a duration, an aware datetime (past: no wait), or `f(ctx)` for one of these."""
        where = self._where("sleep", name)
        _known(where, unknown, "when")
        _functions(where, when=when)
        _check_wait(where, "duration", duration)
        return self._add(where, Sleep(name, duration, when))

    def wait_for_signal(
        self,
        name: str,
        signal: str,
        *,
        timeout: Duration | None = None,
        default: Any = _UNSET,
        when: Function | None = None,
        **unknown: object,
    ) -> Workflow:
        """Adds a wait for a signal; its result is the payload, or `default` (which needs a `timeout`) on timeout."""
        where = self._where("wait_for_signal", name)
        _known(where, unknown, "timeout", "default", "when")
        _functions(where, when=when)
        checked_name(signal, f"{where}: a signal's name")
        try:
            limit = None if timeout is None else micros(timeout, "timeout")
        except ValueError as error:
            raise DefinitionError(f"{where}: {error}.") from None
        if default is not _UNSET and limit is None:
            raise DefinitionError(f"{where}: default is used when timeout is over, and no timeout was given.")
        try:
            fallback = None if default is _UNSET else self._in_memory.encode(default, "default")
        except PayloadError as error:
            raise DefinitionError(f"{where}: {error}.") from None
        return self._add(where, WaitForSignal(name, signal, limit, fallback, when))

    def child_workflow(
        self,
        name: str,
        workflow: Workflow | str,
        *,
        map_input: Function | None = None,
        compensate: Function | None = None,
        when: Function | None = None,
        **unknown: object,
    ) -> Workflow:
        """Adds a run of another workflow, given as such or by name; its result is that run's results."""
        where = self._where("child_workflow", name)
        _known(where, unknown, "map_input", "compensate", "when")
        _functions(where, map_input=map_input, compensate=compensate, when=when)
        if not isinstance(workflow, (str, Workflow)):
            raise DefinitionError(f"{where}: a child is a Workflow or the name of one, not {shown(workflow)}.")
        child = workflow.name if isinstance(workflow, Workflow) else checked_name(workflow, f"{where}: a child's name")
        return self._add(where, ChildWorkflow(name, child, map_input, compensate, when))

    def _where(self, kind: str, name: str) -> str:
        where = f'Workflow "{self.name}": {kind} {name!r}'
        if self._is_closed:
            raise DefinitionError(f"{where} comes too late: the workflow is registered, and closed.")
        checked_name(name, f'Workflow "{self.name}": a {kind}\'s name')
        self._check_free(where, name)
        return where

    def _check_free(self, where: str, name: str) -> None:
        if name in self._taken:
            known = ", ".join(self._taken)
            raise DefinitionError(f'{where}: the name "{name}" is taken by {self._taken[name]}. Taken: {known}.')

    def _add(self, where: str, node: Node) -> Workflow:
        if self._is_closed:
            raise DefinitionError(f"{where} comes too late: the workflow is registered, and closed.")
        for name in {node.name: None} | dict.fromkeys(node.names):
            self._check_free(where, name)
        if isinstance(node, Parallel) and node.name in node.entries:
            raise DefinitionError(f'{where}: an entry has the name of its parallel, "{node.name}".')
        self._taken |= dict.fromkeys(node.names, f"an entry of {node.name}")
        self._taken[node.name] = f"a {node.kind}"
        self._nodes.append(node)
        return self


def checked_name(name: object, what: str) -> str:
    """The name itself; raises DefinitionError, beginning with `what`, for one that may not be."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(f"{what} is 1 to 100 ASCII letters, digits and _ - . :, not {shown(name)}.")
    return str(name)


def _branches(where: str, option: str, given: object) -> Mapping[str, Branch]:
    if not isinstance(given, Mapping):
        raise DefinitionError(f"{where}: {option} are a mapping of names to handlers, not {shown(given)}.")
    if not given:
        raise DefinitionError(f"{where} is empty: it needs one of its {option} at least.")
    branches: dict[str, Branch] = {}
    for name, branch in given.items():
        checked_name(name, f"{where}: a name in its {option}")
        if not isinstance(branch, Branch) and not callable(branch):
            raise DefinitionError(f'{where}: "{name}" is a function or a Branch, not {shown(branch)}.')
        branches[name] = branch if isinstance(branch, Branch) else Branch(branch)
    return MappingProxyType(branches)


def _functions(where: str, **given: object) -> None:
    for option, function in given.items():
        if function is not None and not callable(function):
            raise DefinitionError(f"{where}: {option} is a function, not {shown(function)}.")


def _given(where: str, option: str, function: object) -> Function:
    if not callable(function):
        raise DefinitionError(f"{where}: {option} is a function, not {shown(function)}.")
    return function


def _known(where: str, unknown: Mapping[str, object], *known: str) -> None:
    for option in unknown:
        raise DefinitionError(f'{where} has no option "{option}". Known: {", ".join(known)}.')


def _policy(where: str, options: PolicyOptions, *known: str) -> Policy:
    _known(
        where, {name: value for name, value in options.items() if name not in POLICY_OPTIONS}, *known, *POLICY_OPTIONS
    )
    return policy_from(where, options)


def _check_wait(where: str, option: str, pause: object) -> None:
    if isinstance(pause, type) or not (callable(pause) or isinstance(pause, (datetime, timedelta, int, float))):
        kinds = "a duration, an aware datetime or a function giving one"
        raise DefinitionError(f"{where}: {option} is {kinds}, not {shown(pause)}.")
    try:
        if isinstance(pause, datetime):
            instant(pause, option)
        elif not callable(pause):
            micros(pause, option)
    except ValueError as error:
        raise DefinitionError(f"{where}: {error}.") from None
