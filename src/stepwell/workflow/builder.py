"""The builder of workflows: each method checks its arguments, adds one node and returns the same object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack, overload

from stepwell.errors import DefinitionError, PayloadError
from stepwell.workflow.checks import (
    branches_from,
    check_functions,
    check_options,
    check_wait,
    checked_name,
    checked_policy,
    function_from,
)
from stepwell.workflow.durations import Duration, micros
from stepwell.workflow.nodes import (
    AfterIteration,
    Branch,
    ChildWorkflow,
    Handler,
    Iteration,
    Loop,
    Node,
    Parallel,
    Route,
    Sleep,
    Step,
    WaitForSignal,
)
from stepwell.workflow.numbers import count, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime, timedelta

    from stepwell.workflow.policy import PolicyOptions

_UNSET: Any = object()
H = TypeVar("H", bound=Handler)
N = TypeVar("N", bound=Iteration)


@dataclass(frozen=True, slots=True)
class RunResult:
    """The return value of `Workflow.run`: the `results` by name, and the `duration`, a timedelta. Frozen."""

    results: dict[str, Any]
    duration: timedelta


class InMemory(Protocol):
    """What the builder is given by the layers above it: a run in memory, and the check and encoding of a value."""

    async def run(self, name: str, nodes: tuple[Node, ...], value: object) -> RunResult:
        """Runs these nodes in memory."""

    def encode(self, value: object, place: str) -> bytes:
        """The value as stored JSON; raises PayloadError."""


class _HandlerDecorator:
    """Takes the handler that `step` was called without, and returns it unchanged."""

    def __init__(self, add: Callable[[Any], object]) -> None:
        self._add = add

    def __call__(self, handler: H) -> H:
        self._add(handler)
        return handler


class _IterationDecorator:
    """Takes the handler that `loop` was called without, and returns it unchanged."""

    def __init__(self, add: Callable[[Any], object]) -> None:
        self._add = add

    def __call__(self, handler: N) -> N:
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
        handler: Handler,
        *,
        compensate: Handler | None = None,
        when: Handler | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> Workflow: ...
    @overload
    def step(
        self,
        name: str,
        handler: None = None,
        *,
        compensate: Handler | None = None,
        when: Handler | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> _HandlerDecorator: ...
    def step(
        self,
        name: str,
        handler: Handler | None = None,
        *,
        compensate: Handler | None = None,
        when: Handler | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> Workflow | _HandlerDecorator:
        """Adds a node that calls `handler(ctx)`; its result is what the handler returns, a JSON value.

        Without a handler it returns a decorator, which adds the node and returns the function unchanged.
        """
        where = self._where("step", name)
        check_functions(where, compensate=compensate, when=when)
        tried = checked_policy(where, policy, "compensate", "when")

        def add(handler: Handler) -> Workflow:
            check_functions(where, handler=handler)
            return self._add(where, Step(name, handler, compensate, when, tried))

        return _HandlerDecorator(add) if handler is None else add(function_from(where, "handler", handler))

    def parallel(
        self,
        name: str,
        entries: Mapping[str, Handler | Branch],
        *,
        when: Handler | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> Workflow:
        """Adds a node that calls all its entries at the same time.

        `entries`: handlers `f(ctx)` or `Branch`es by name. Each entry has attempts of its own and one result, under its
        own name. If one fails for good, no other entry is started, and what completed is undone.
        """
        where = self._where("parallel", name)
        branches = branches_from(where, "entries", entries)
        check_functions(where, when=when)
        return self._add(where, Parallel(name, branches, when, checked_policy(where, policy, "when")))

    def route(
        self,
        name: str,
        resolver: Handler,
        branches: Mapping[str, Handler | Branch],
        *,
        when: Handler | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> Workflow:
        """Adds a node that calls one of its branches; the result is that of the branch.

        `resolver`: `f(ctx)`, which returns the name of the branch. The choice is journaled before the branch is called.
        `branches`: handlers `f(ctx)` or `Branch`es by name.
        """
        where = self._where("route", name)
        check_functions(where, when=when)
        resolver = function_from(where, "resolver", resolver)
        chosen = branches_from(where, "branches", branches)
        return self._add(where, Route(name, resolver, chosen, when, checked_policy(where, policy, "when")))

    @overload
    def loop(
        self,
        name: str,
        handler: Iteration,
        *,
        max_iterations: int = _UNSET,
        until: AfterIteration | None = None,
        feedback: Callable[[Any], Any] | None = None,
        map_input: Handler | None = None,
        pause: Duration | datetime | AfterIteration | None = None,
        compensate: Handler | None = None,
        when: Handler | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> Workflow: ...
    @overload
    def loop(
        self,
        name: str,
        handler: None = None,
        *,
        max_iterations: int = _UNSET,
        until: AfterIteration | None = None,
        feedback: Callable[[Any], Any] | None = None,
        map_input: Handler | None = None,
        pause: Duration | datetime | AfterIteration | None = None,
        compensate: Handler | None = None,
        when: Handler | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> _IterationDecorator: ...
    def loop(
        self,
        name: str,
        handler: Iteration | None = None,
        *,
        max_iterations: int = _UNSET,
        until: AfterIteration | None = None,
        feedback: Callable[[Any], Any] | None = None,
        map_input: Handler | None = None,
        pause: Duration | datetime | AfterIteration | None = None,
        compensate: Handler | None = None,
        when: Handler | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> Workflow | _IterationDecorator:
        """Adds a node that calls `handler(input, ctx)` again and again; its result is that of the last iteration.

        - `max_iterations`: an integer >= 1.
        - `until`: `f(result, iteration)`. If it returns something true, the loop ends.
        - `feedback`: `f(result)`, which returns the next iteration's input; without it the input stays the same.
        - `map_input`: `f(ctx)`, which returns the first iteration's input; without it that is the run's input.
        - `pause`: the wait between iterations: a duration, an aware datetime, or `f(result, iteration)` giving one.

        Without a handler it returns a decorator, which adds the node and returns the function unchanged.
        """
        where = self._where("loop", name)
        most: object = max_iterations
        if most is _UNSET:
            raise DefinitionError(f"{where} needs max_iterations, an integer >= 1.")
        try:
            count(most, "max_iterations")
        except ValueError as error:
            raise DefinitionError(f"{where}: {error}.") from None
        check_functions(where, until=until, feedback=feedback, map_input=map_input, compensate=compensate, when=when)
        if pause is not None:
            check_wait(where, "pause", pause)
        known = ("max_iterations", "until", "feedback", "map_input", "pause", "compensate", "when")
        tried = checked_policy(where, policy, *known)

        def add(handler: Iteration) -> Workflow:
            check_functions(where, handler=handler)
            given = (until, feedback, map_input, pause, compensate, when)
            return self._add(where, Loop(name, handler, max_iterations, *given, tried))

        return _IterationDecorator(add) if handler is None else add(function_from(where, "handler", handler))

    def sleep(
        self,
        name: str,
        duration: Duration | datetime | Handler,
        *,
        when: Handler | None = None,
        **unknown: object,
    ) -> Workflow:
        """Adds a durable timer; its result is None.

        `duration`: a `timedelta`, seconds, an aware datetime (one in the past: no wait), or `f(ctx)` that returns one
        of these and is called once. The run needs no worker while it waits.
        """
        where = self._where("sleep", name)
        check_options(where, unknown, "when")
        check_functions(where, when=when)
        check_wait(where, "duration", duration)
        return self._add(where, Sleep(name, duration, when))

    def wait_for_signal(
        self,
        name: str,
        signal: str,
        *,
        timeout: Duration | None = None,
        default: Any = _UNSET,
        when: Handler | None = None,
        **unknown: object,
    ) -> Workflow:
        """Adds a wait for a signal; its result is the signal's payload.

        - `signal`: the signal's name. A signal that came before the node is used, too.
        - `timeout`: how long to wait. After it the result is `default`, or without one the node fails.
        - `default`: a JSON value; needs a `timeout`.
        """
        where = self._where("wait_for_signal", name)
        check_options(where, unknown, "timeout", "default", "when")
        check_functions(where, when=when)
        checked_name(signal, f"{where}: a signal's name")
        try:
            limit = None if timeout is None else micros(timeout, "timeout")
        except ValueError as error:
            raise DefinitionError(f"{where}: {error}.") from None
        if default is not _UNSET and limit is None:
            raise DefinitionError(f"{where}: default is used when the timeout ends, so it needs a timeout.")
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
        map_input: Handler | None = None,
        compensate: Handler | None = None,
        when: Handler | None = None,
        **unknown: object,
    ) -> Workflow:
        """Adds a run of another workflow, as durable as this one; its result are that run's results.

        - `workflow`: the workflow or its name. It must be registered when this workflow runs.
        - `map_input`: `f(ctx)`, which returns the child's input; without it that is this run's input.

        A child that fails or is canceled fails the node.
        """
        where = self._where("child_workflow", name)
        check_options(where, unknown, "map_input", "compensate", "when")
        check_functions(where, map_input=map_input, compensate=compensate, when=when)
        if not isinstance(workflow, (str, Workflow)):
            raise DefinitionError(f"{where}: a child must be a Workflow or the name of one, got {shown(workflow)}.")
        child = workflow.name if isinstance(workflow, Workflow) else checked_name(workflow, f"{where}: a child's name")
        return self._add(where, ChildWorkflow(name, child, map_input, compensate, when))

    def _where(self, kind: str, name: str) -> str:
        where = f'Workflow "{self.name}": {kind} {name!r}'
        if self._is_closed:
            raise DefinitionError(f"{where} cannot be added: the workflow is already registered.")
        checked_name(name, f'Workflow "{self.name}": a {kind}\'s name')
        self._check_free(where, name)
        return where

    def _check_free(self, where: str, name: str) -> None:
        if name in self._taken:
            known = ", ".join(self._taken)
            raise DefinitionError(
                f'{where}: the name "{name}" is already used by {self._taken[name]}. Used names: {known}.'
            )

    def _add(self, where: str, node: Node) -> Workflow:
        if self._is_closed:
            raise DefinitionError(f"{where} cannot be added: the workflow is already registered.")
        for name in {node.name: None} | dict.fromkeys(node.names):
            self._check_free(where, name)
        if isinstance(node, Parallel) and node.name in node.entries:
            raise DefinitionError(f'{where}: an entry must not have the name of its parallel, "{node.name}".')
        self._taken |= dict.fromkeys(node.names, f"an entry of {node.name}")
        self._taken[node.name] = f"a {node.kind}"
        self._nodes.append(node)
        return self
