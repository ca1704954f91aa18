"""The node kinds as frozen values: what a workflow is made of, with nothing of how it is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, get_args

from stepwell.errors import DefinitionError
from stepwell.workflow.annotations import (
    NO_TYPES,
    UNDECLARED,
    UNSET,
    Declaration,
    HandlerTypes,
    option,
    union_of,
)
from stepwell.workflow.context import Context, In
from stepwell.workflow.policy import DEFAULT_POLICY, Policy

Function: TypeAlias = Callable[..., Any]
Handler: TypeAlias = Callable[[Context[In]], Any]
"""A function of a node, plain or async, that is called with its context alone."""
Iteration: TypeAlias = Callable[[Any, Context[In]], Any]
"""The handler of a loop, with the iteration's input and the context."""
AfterIteration: TypeAlias = Callable[[Any, int], Any]
"""What a loop asks after an iteration, with its result and number."""
Undo: TypeAlias = Literal["completed", "attempted"]
"""What a compensator undoes: work that completed, or also work that failed for good and may have been called."""
UNDOS: tuple[str, ...] = get_args(Undo)


class Node(Protocol):
    """What every class of node has; what is particular to one is known to its kind, in `stepwell.core.kinds`."""

    @property
    def kind(self) -> str:
        """The word for its kind."""

    @property
    def name(self) -> str:
        """Its name in the workflow."""

    @property
    def when(self) -> Function | None:
        """The condition without which it is skipped."""

    @property
    def policy(self) -> Policy:
        """How its functions are tried."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names under which its results are found."""


class _OneResult:
    """A node with one result, under its own name."""

    __slots__ = ()
    name: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names under which its results are found."""
        return (self.name,)


@dataclass(frozen=True, slots=True, init=False)
class Branch:
    """A handler of a parallel or a route, with its compensator and what that undoes (see `Workflow.step`). Frozen.

    Its options declare types: `result` that of what the handler returns, instead of its annotation (`Any`: any JSON
    value); `snapshot` and `resume` those of what a `Suspended` of it holds and of what answers it. Raises
    DefinitionError if one of the functions is not callable, and for an unknown `undo`.
    """

    handler: Handler[Any]
    compensate: Handler[Any] | None
    undo: Undo
    options: Mapping[str, Any] = field(repr=False, compare=False)
    types: HandlerTypes = field(repr=False, compare=False)

    def __init__(
        self,
        handler: Handler[Any],
        compensate: Handler[Any] | None = None,
        *,
        undo: Undo = "completed",
        result: Any = UNSET,
        snapshot: Any = UNSET,
        resume: Any = UNSET,
    ) -> None:
        check_undo("Branch", undo, compensate)
        for name, value in (("handler", handler), ("compensate", compensate)):
            if not callable(value) and not (name == "compensate" and value is None):
                raise DefinitionError(f"Branch: {name} must be a function, got {value!r}.")
        options = {"result": result, "snapshot": snapshot, "resume": resume}
        _fill(self, (handler, compensate, undo), options, NO_TYPES)


def branch_of(
    branch: Branch, handler: Function, compensate: Function | None, types: HandlerTypes | None = None
) -> Branch:
    """A copy of the branch with these functions, and with these types, or else with those it has."""
    copy = object.__new__(Branch)
    _fill(copy, (handler, compensate, branch.undo), branch.options, branch.types if types is None else types)
    return copy


def _fill(
    branch: Branch, functions: tuple[Function, Function | None, Undo], options: Mapping[str, Any], types: HandlerTypes
) -> None:
    handler, compensate, undo = functions
    given = {"handler": handler, "compensate": compensate, "undo": undo, "options": options, "types": types}
    for name, value in given.items():
        object.__setattr__(branch, name, value)


def route_types(
    where: str, branches: Mapping[str, Branch], options: Mapping[str, Any]
) -> tuple[HandlerTypes, Mapping[str, Branch]]:
    """What is declared of a route, and its branches: by its own option, or else the union of what they declare."""
    results = {name: branch.types.result for name, branch in branches.items()}
    if "result" not in options:
        return HandlerTypes(union_of(where, results)), branches
    own = option(where, "result", options["result"])
    typed: dict[str, Branch] = {}
    for name, branch in branches.items():
        types = branch.types._replace(result=Declaration(own.type, branch.types.result.handler))
        typed[name] = branch_of(branch, branch.handler, branch.compensate, types)
    return HandlerTypes(own), MappingProxyType(typed)


def check_undo(where: str, undo: object, compensate: object) -> None:
    """Raises DefinitionError that begins with `where` for an unknown `undo`, or one without a compensator."""
    if undo not in UNDOS:
        known = " or ".join(f'"{one}"' for one in UNDOS)
        raise DefinitionError(f"{where}: undo must be {known}, got {undo!r:.200}.")
    if undo != "completed" and compensate is None:
        raise DefinitionError(f'{where}: undo="{undo}" says what compensate undoes, so it needs a compensate.')


@dataclass(frozen=True, slots=True)
class Step(_OneResult):
    """Calls one handler."""

    kind: ClassVar[str] = "step"
    name: str
    handler: Function
    compensate: Function | None = None
    when: Function | None = None
    policy: Policy = DEFAULT_POLICY
    types: HandlerTypes = field(default=NO_TYPES, repr=False, compare=False)
    undo: Undo = "completed"


@dataclass(frozen=True, slots=True)
class Parallel:
    """Calls several handlers at once; each entry has a name, attempts and a result of its own."""

    kind: ClassVar[str] = "parallel"
    name: str
    entries: Mapping[str, Branch]
    when: Function | None = None
    policy: Policy = DEFAULT_POLICY

    @property
    def names(self) -> tuple[str, ...]:
        """The names under which its results are found: the entries'."""
        return tuple(self.entries)


@dataclass(frozen=True, slots=True)
class Route(_OneResult):
    """Asks a resolver for the name of the one branch to call."""

    kind: ClassVar[str] = "route"
    name: str
    resolver: Function
    branches: Mapping[str, Branch]
    when: Function | None = None
    policy: Policy = DEFAULT_POLICY
    types: HandlerTypes = field(default=NO_TYPES, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Loop(_OneResult):
    """Calls a handler again and again, until a condition holds or `max_iterations` is reached."""

    kind: ClassVar[str] = "loop"
    name: str
    handler: Function
    max_iterations: int
    until: Function | None = None
    feedback: Function | None = None
    map_input: Function | None = None
    pause: Any = None
    compensate: Function | None = None
    when: Function | None = None
    policy: Policy = DEFAULT_POLICY
    types: HandlerTypes = field(default=NO_TYPES, repr=False, compare=False)
    undo: Undo = "completed"


@dataclass(frozen=True, slots=True)
class Sleep(_OneResult):
    """Waits for a duration, or until an aware datetime, or for what a function of the context says."""

    kind: ClassVar[str] = "sleep"
    name: str
    duration: Any
    when: Function | None = None
    policy: ClassVar[Policy] = DEFAULT_POLICY


@dataclass(frozen=True, slots=True)
class WaitForSignal(_OneResult):
    """Waits for a signal; `timeout` in microseconds, `default` the encoded result once it is over."""

    kind: ClassVar[str] = "signal"
    name: str
    signal: str
    timeout: int | None = None
    default: bytes | None = None
    when: Function | None = None
    payload: Declaration = field(default=UNDECLARED, repr=False, compare=False)
    policy: ClassVar[Policy] = DEFAULT_POLICY


@dataclass(frozen=True, slots=True)
class ChildWorkflow(_OneResult):
    """Runs another workflow as a run of its own and waits for its end."""

    kind: ClassVar[str] = "child"
    name: str
    workflow: str
    map_input: Function | None = None
    compensate: Function | None = None
    when: Function | None = None
    undo: Undo = "completed"
    policy: ClassVar[Policy] = DEFAULT_POLICY


def resolve(node: Node) -> None:
    """Tries once more the annotations of a node that could not be resolved when it was added."""
    types = getattr(node, "types", NO_TYPES)
    types.resolve()
    branches: Mapping[str, Branch] = getattr(node, "entries", None) or getattr(node, "branches", {})
    for branch in branches.values():
        branch.types.resolve()
