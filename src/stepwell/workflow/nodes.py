"""The node kinds as frozen values: what a workflow is made of, with nothing of how it is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias

from stepwell.errors import DefinitionError
from stepwell.workflow.policy import DEFAULT_POLICY, Policy

Function: TypeAlias = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Branch:
    """A handler of a parallel or a route, with the compensator that undoes it."""

    handler: Function
    compensate: Function | None = None

    def __post_init__(self) -> None:
        for name, value in (("handler", self.handler), ("compensate", self.compensate)):
            if not callable(value) and not (name == "compensate" and value is None):
                raise DefinitionError(f"Branch: {name} is a function, not {value!r}.")


@dataclass(frozen=True, slots=True)
class Step:
    """Calls one handler."""

    kind: ClassVar[str] = "step"
    name: str
    handler: Function
    compensate: Function | None = None
    when: Function | None = None
    policy: Policy = DEFAULT_POLICY


@dataclass(frozen=True, slots=True)
class Parallel:
    """Calls several handlers at once; each entry has a name, attempts and a result of its own."""

    kind: ClassVar[str] = "parallel"
    name: str
    entries: Mapping[str, Branch]
    when: Function | None = None
    policy: Policy = DEFAULT_POLICY


@dataclass(frozen=True, slots=True)
class Route:
    """Asks a resolver for the name of the one branch to call."""

    kind: ClassVar[str] = "route"
    name: str
    resolver: Function
    branches: Mapping[str, Branch]
    when: Function | None = None
    policy: Policy = DEFAULT_POLICY


@dataclass(frozen=True, slots=True)
class Loop:
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


@dataclass(frozen=True, slots=True)
class Sleep:
    """Waits for a duration, or until an aware datetime, or for what a function of the context says."""

    kind: ClassVar[str] = "sleep"
    name: str
    duration: Any
    when: Function | None = None
    policy: ClassVar[Policy] = DEFAULT_POLICY


@dataclass(frozen=True, slots=True)
class WaitForSignal:
    """Waits for a signal; `timeout` in microseconds, `default` the encoded result once it is over."""

    kind: ClassVar[str] = "signal"
    name: str
    signal: str
    timeout: int | None = None
    default: bytes | None = None
    when: Function | None = None
    policy: ClassVar[Policy] = DEFAULT_POLICY


@dataclass(frozen=True, slots=True)
class ChildWorkflow:
    """Runs another workflow as a run of its own and waits for its end."""

    kind: ClassVar[str] = "child"
    name: str
    workflow: str
    map_input: Function | None = None
    compensate: Function | None = None
    when: Function | None = None
    policy: ClassVar[Policy] = DEFAULT_POLICY


Node: TypeAlias = Step | Parallel | Route | Loop | Sleep | WaitForSignal | ChildWorkflow


def names_of(node: Node) -> tuple[str, ...]:
    """The names under which the node's results are found: its own, or its entries'."""
    return tuple(node.entries) if isinstance(node, Parallel) else (node.name,)


@dataclass(frozen=True, slots=True)
class Plan:
    """A closed workflow: what the engine runs. `fingerprint` tells two plans apart whose positions do not match."""

    name: str
    nodes: tuple[Node, ...]
    fingerprint: str
    indexes: Mapping[str, int] = field(repr=False)


def plan_of(name: str, nodes: tuple[Node, ...], fingerprint: str) -> Plan:
    """The plan, with each node's place by its name."""
    return Plan(name, nodes, fingerprint, MappingProxyType({node.name: at for at, node in enumerate(nodes)}))
