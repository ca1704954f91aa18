"""The builder of workflows: each method checks its arguments, adds one node and returns the same object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Unpack, overload

from stepwell.errors import DefinitionError, PayloadError
from stepwell.workflow.annotations import UNSET, option, types_of
from stepwell.workflow.checks import (
    branches_from,
    check_functions,
    check_options,
    check_wait,
    checked_name,
    checked_policy,
    function_from,
)
from stepwell.workflow.context import In
from stepwell.workflow.declared import declared
from stepwell.workflow.decorators import HandlerDecorator, IterationDecorator
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
    Undo,
    WaitForSignal,
    check_undo,
    resolve,
    route_types,
)
from stepwell.workflow.numbers import count, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from stepwell.workflow.declared import DeclaredType
    from stepwell.workflow.in_memory import InMemory, RunResult
    from stepwell.workflow.policy import PolicyOptions, RouteOptions, StepOptions

_TYPES = ("result", "snapshot", "resume")


class Workflow(Generic[In]):
    """An ordered list of named nodes, created by `durable(name)`.

    Each builder method adds a node and returns the workflow. It raises DefinitionError for a name that is taken, an
    invalid or unknown option, or a workflow that is registered; then it adds nothing. `name` is the workflow's name.
    """

    def __init__(self, name: str, in_memory: InMemory, input: Any = UNSET) -> None:
        self.name: str = checked_name(name, "A workflow's name")
        self._in_memory = in_memory
        self._input_type = None if input is UNSET else declared(input, f'Workflow "{name}": input')
        self._nodes: list[Node] = []
        self._taken: dict[str, str] = {}
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Workflow {self.name}: {', '.join(node.name for node in self._nodes) or 'no nodes'}>"

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes in order, as frozen values."""
        return tuple(self._nodes)

    @property
    def input_type(self) -> DeclaredType | None:
        """What the input is declared to be."""
        return self._input_type

    def close(self) -> None:
        """Closes the workflow: no node can be added any more. Registering a workflow closes it."""
        self._is_closed = True
        self._resolve()

    @overload
    async def run(self: Workflow[None]) -> RunResult: ...
    @overload
    async def run(self, input: In) -> RunResult: ...
    async def run(self, input: Any = None) -> RunResult:
        """Runs the workflow in memory, without a store, and returns a `RunResult`. Sleeps take real time.

        Raises RunFailedError from the handler's exception, PayloadError for an input that is not of the declared type,
        or not JSON, and DefinitionError for a node that needs a store.
        """
        self._resolve()
        return await self._in_memory.run(self.name, self.nodes, self._input_type, input)

    @overload
    def step(
        self,
        name: str,
        handler: Handler[In],
        *,
        compensate: Handler[In] | None = None,
        undo: Undo = "completed",
        when: Handler[In] | None = None,
        **options: Unpack[StepOptions],
    ) -> Workflow[In]: ...
    @overload
    def step(
        self,
        name: str,
        handler: None = None,
        *,
        compensate: Handler[In] | None = None,
        undo: Undo = "completed",
        when: Handler[In] | None = None,
        **options: Unpack[StepOptions],
    ) -> HandlerDecorator[In]: ...
    def step(
        self,
        name: str,
        handler: Handler[In] | None = None,
        *,
        compensate: Handler[In] | None = None,
        undo: Undo = "completed",
        when: Handler[In] | None = None,
        **options: Unpack[StepOptions],
    ) -> Workflow[In] | HandlerDecorator[In]:
        """Adds a node that calls `handler(ctx)`; its result is what the handler returns, a JSON value.

        `compensate`: `f(ctx)`, which undoes the step if the run fails later. `undo`: `"completed"`, or `"attempted"` to
        call it also for a step that failed for good, or was in flight when its run was canceled, and may have been
        called. Without a handler it returns a decorator, which adds the node and returns the function unchanged.
        """
        where = self._where("step", name)
        check_functions(where, compensate=compensate, when=when)
        check_undo(where, undo, compensate)
        tried = checked_policy(where, options, "compensate", "undo", "when", *_TYPES)

        def add(handler: Handler[In]) -> Workflow[In]:
            function = function_from(where, "handler", handler)
            types = types_of(where, function, options)
            return self._add(where, Step(name, function, compensate, when, tried, types, undo))

        return HandlerDecorator(add) if handler is None else add(handler)

    def parallel(
        self,
        name: str,
        entries: Mapping[str, Handler[In] | Branch],
        *,
        when: Handler[In] | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> Workflow[In]:
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
        resolver: Handler[In],
        branches: Mapping[str, Handler[In] | Branch],
        *,
        when: Handler[In] | None = None,
        **options: Unpack[RouteOptions],
    ) -> Workflow[In]:
        """Adds a node that calls one of its branches; the result is that of the branch.

        `resolver`: `f(ctx)`, which returns the name of the branch. The choice is journaled before the branch is called.
        `branches`: handlers `f(ctx)` or `Branch`es by name.
        """
        where = self._where("route", name)
        check_functions(where, when=when)
        resolver = function_from(where, "resolver", resolver)
        tried = checked_policy(where, options, "when", "result")
        types, chosen = route_types(where, branches_from(where, "branches", branches), options)
        return self._add(where, Route(name, resolver, chosen, when, tried, types))

    @overload
    def loop(
        self,
        name: str,
        handler: Iteration[In],
        *,
        max_iterations: int = UNSET,
        until: AfterIteration | None = None,
        feedback: Callable[[Any], Any] | None = None,
        map_input: Handler[In] | None = None,
        pause: Duration | datetime | AfterIteration | None = None,
        compensate: Handler[In] | None = None,
        undo: Undo = "completed",
        when: Handler[In] | None = None,
        **options: Unpack[StepOptions],
    ) -> Workflow[In]: ...
    @overload
    def loop(
        self,
        name: str,
        handler: None = None,
        *,
        max_iterations: int = UNSET,
        until: AfterIteration | None = None,
        feedback: Callable[[Any], Any] | None = None,
        map_input: Handler[In] | None = None,
        pause: Duration | datetime | AfterIteration | None = None,
        compensate: Handler[In] | None = None,
        undo: Undo = "completed",
        when: Handler[In] | None = None,
        **options: Unpack[StepOptions],
    ) -> IterationDecorator[In]: ...
    def loop(
        self,
        name: str,
        handler: Iteration[In] | None = None,
        *,
        max_iterations: int = UNSET,
        until: AfterIteration | None = None,
        feedback: Callable[[Any], Any] | None = None,
        map_input: Handler[In] | None = None,
        pause: Duration | datetime | AfterIteration | None = None,
        compensate: Handler[In] | None = None,
        undo: Undo = "completed",
        when: Handler[In] | None = None,
        **options: Unpack[StepOptions],
    ) -> Workflow[In] | IterationDecorator[In]:
        """Adds a node that calls `handler(input, ctx)` again and again; its result is that of the last iteration.

        - `max_iterations`: an integer >= 1.
        - `until`: `f(result, iteration)`. If it returns something true, the loop ends.
        - `feedback`: `f(result)`, which returns the next iteration's input; without it the input stays the same.
        - `map_input`: `f(ctx)`, which returns the first iteration's input; without it that is the run's input.
        - `pause`: the wait between iterations: a duration, an aware datetime, or `f(result, iteration)` giving one.
        - `compensate`, `undo`: as for `step`, for each iteration.

        Without a handler it returns a decorator, which adds the node and returns the function unchanged.
        """
        where = self._where("loop", name)
        most: object = max_iterations
        if most is UNSET:
            raise DefinitionError(f"{where} needs max_iterations, an integer >= 1.")
        try:
            count(most, "max_iterations")
        except ValueError as error:
            raise DefinitionError(f"{where}: {error}.") from None
        check_functions(where, map_input=map_input, compensate=compensate, when=when)
        check_functions(where, "result, iteration", until=until)
        check_functions(where, "result", feedback=feedback)
        if pause is not None:
            check_wait(where, "pause", pause, "result, iteration")
        known = ("max_iterations", "until", "feedback", "map_input", "pause", "compensate", "undo", "when", *_TYPES)
        check_undo(where, undo, compensate)
        tried = checked_policy(where, options, *known)

        def add(handler: Iteration[In]) -> Workflow[In]:
            function = function_from(where, "handler", handler, "input, ctx")
            types = types_of(where, function, options, is_iteration=True)
            given = (until, feedback, map_input, pause, compensate, when)
            return self._add(where, Loop(name, function, max_iterations, *given, tried, types, undo))

        return IterationDecorator(add) if handler is None else add(handler)

    def sleep(
        self,
        name: str,
        duration: Duration | datetime | Handler[In],
        *,
        when: Handler[In] | None = None,
        **unknown: object,
    ) -> Workflow[In]:
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
        default: Any = UNSET,
        payload: Any = UNSET,
        when: Handler[In] | None = None,
        **unknown: object,
    ) -> Workflow[In]:
        """Adds a wait for a signal; its result is the signal's payload.

        - `signal`: the signal's name. A signal that came before the node is used, too.
        - `timeout`: how long to wait. After it the result is `default`, or without one the node fails.
        - `default`: None or a value of the payload's type; needs a `timeout`.
        - `payload`: the type of the payload; without one any JSON value.
        """
        where = self._where("wait_for_signal", name)
        check_options(where, unknown, "timeout", "default", "payload", "when")
        check_functions(where, when=when)
        checked_name(signal, f"{where}: a signal's name")
        try:
            limit = None if timeout is None else micros(timeout, "timeout")
        except ValueError as error:
            raise DefinitionError(f"{where}: {error}.") from None
        if default is not UNSET and limit is None:
            raise DefinitionError(f"{where}: default is used when the timeout ends, so it needs a timeout.")
        type_ = option(where, "payload", payload)
        try:
            checked = type_.type if default is not None else None
            fallback = None if default is UNSET else self._in_memory.encode(default, "default", checked)
        except PayloadError as error:
            raise DefinitionError(f"{where}: {error}.") from None
        return self._add(where, WaitForSignal(name, signal, limit, fallback, when, type_))

    def child_workflow(
        self,
        name: str,
        workflow: Workflow[Any] | str,
        *,
        map_input: Handler[In] | None = None,
        compensate: Handler[In] | None = None,
        undo: Undo = "completed",
        when: Handler[In] | None = None,
        **unknown: object,
    ) -> Workflow[In]:
        """Adds a run of another workflow, as durable as this one; its result are that run's results.

        - `workflow`: the workflow or its name. It must be registered when this workflow runs.
        - `map_input`: `f(ctx)`, which returns the child's input; without it that is this run's input.
        - `compensate`, `undo`: as for `step`; with `"attempted"` also for a child that failed or was canceled.

        A child that fails or is canceled fails the node.
        """
        where = self._where("child_workflow", name)
        check_options(where, unknown, "map_input", "compensate", "undo", "when")
        check_functions(where, map_input=map_input, compensate=compensate, when=when)
        check_undo(where, undo, compensate)
        if not isinstance(workflow, (str, Workflow)):
            raise DefinitionError(f"{where}: a child must be a Workflow or the name of one, got {shown(workflow)}.")
        child = workflow.name if isinstance(workflow, Workflow) else checked_name(workflow, f"{where}: a child's name")
        return self._add(where, ChildWorkflow(name, child, map_input, compensate, when, undo))

    def _resolve(self) -> None:
        """Resolves what annotations name that was defined after its node was added."""
        for node in self._nodes:
            resolve(node)

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

    def _add(self, where: str, node: Node) -> Workflow[In]:
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
