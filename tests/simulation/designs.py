"""Random workflows as data, over all kinds of nodes and three levels of children; how they are built is elsewhere."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import TypeAlias

LEVELS = ("root", "middle", "leaf")
ATTEMPTED = 0.6
"""The share of compensators that are also for what failed, where a history has any."""
KINDS = ("step", "parallel", "route", "loop", "sleep", "wait", "suspend", "child")


@dataclass(frozen=True, slots=True)
class Unit:
    """A handler of a step, an entry, a branch or a loop: plain or async, with a compensator or without."""

    name: str
    plain: bool
    compensated: bool
    attempted: bool = field(default=False, repr=False)
    """Whether the compensator is also for what failed and may have been called."""
    sub_steps: int = field(default=0, repr=False)
    """How many sub-steps its handler has, and its compensator."""


@dataclass(frozen=True, slots=True)
class StepSpec:
    """A step, which suspends itself `suspends` times before it ends."""

    name: str
    unit: Unit
    suspends: int
    conditional: bool
    retries: int
    stalls: bool
    gives_up: bool = field(default=False, repr=False)
    """Whether there are exceptions after which it is not tried again."""


@dataclass(frozen=True, slots=True)
class ParallelSpec:
    """A parallel of several entries."""

    name: str
    units: tuple[Unit, ...]
    conditional: bool
    retries: int


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """A route with several branches."""

    name: str
    units: tuple[Unit, ...]
    conditional: bool
    retries: int


@dataclass(frozen=True, slots=True)
class LoopSpec:
    """A loop; its options say which of its functions it has."""

    name: str
    unit: Unit
    turns: int
    until: bool
    feedback: bool
    maps: bool
    pause: float
    conditional: bool
    retries: int


@dataclass(frozen=True, slots=True)
class SleepSpec:
    """A sleep, of a fixed length or of one that a function gives."""

    name: str
    seconds: float
    asked: bool
    conditional: bool


@dataclass(frozen=True, slots=True)
class WaitSpec:
    """A wait for a signal; without a timeout somebody must send it."""

    name: str
    signal: str
    timeout: float | None
    default: bool
    conditional: bool


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A child workflow of the next level."""

    name: str
    workflow: str
    maps: bool
    compensated: bool
    conditional: bool
    attempted: bool = field(default=False, repr=False)


Spec: TypeAlias = StepSpec | ParallelSpec | RouteSpec | LoopSpec | SleepSpec | WaitSpec | ChildSpec


@dataclass(frozen=True, slots=True)
class Design:
    """A workflow's name and nodes."""

    name: str
    level: str
    specs: tuple[Spec, ...]

    @property
    def signals(self) -> tuple[str, ...]:
        """The names of signals that a run of it may take."""
        waited = [spec.signal for spec in self.specs if isinstance(spec, WaitSpec)]
        return (*waited, *(spec.name for spec in self.specs if isinstance(spec, StepSpec) and spec.suspends))


def designs_from(
    seed: int,
    *,
    unit: float,
    per_level: int = 2,
    most: int = 6,
    small: bool = False,
    plain_stalls: bool = False,
    kinds: tuple[str, ...] = KINDS,
    fewest: int | None = None,
    levels: tuple[str, ...] = LEVELS,
    nested: bool = False,
) -> dict[str, Design]:
    """Workflows by name, `per_level` on each level; `unit` is what they wait, in seconds, give or take.

    Each has `fewest` nodes or more; small ones may have one alone, and no child. With `plain_stalls` plain handlers
    stall too. With `nested` each but the last has a child.
    """
    chance = random.Random(f"designs {seed}")
    least = (1 if small else 3) if fewest is None else fewest
    names = {level: [f"{level}-{at}" for at in range(per_level)] for level in levels}
    designs: dict[str, Design] = {}
    for below, level in zip((*levels[1:], None), levels, strict=True):
        able = [kind for kind in kinds if below is not None or kind != "child"]
        for at, name in enumerate(names[level]):
            chosen = chance.sample(able, chance.randint(min(least, most), min(most, len(able))))
            if below is not None and at == 0 and not small:  # the first of each level has a child, and a step
                chosen = [*dict.fromkeys([*chosen[:-2], "child", "step"])]
                chance.shuffle(chosen)
            if nested and below is not None and "child" not in chosen:
                chosen.append("child")
            if not small:
                chosen += chance.choices(able, k=chance.randint(0, 1))
            children = names[below] if below is not None else []
            specs = tuple(
                _spec(kind, at, chance, unit, children, plain_stalls=plain_stalls) for at, kind in enumerate(chosen)
            )
            designs[name] = Design(name, level, specs)
    return designs


def _spec(kind: str, at: int, chance: random.Random, unit: float, children: list[str], *, plain_stalls: bool) -> Spec:
    name = f"{kind}{at}"
    conditional = chance.random() < 0.25
    retries = chance.randint(1, 3)
    units = tuple(_unit(f"{name}-{letter}", chance) for letter in "abc"[: chance.randint(2, 3)])
    match kind:
        case "step" | "suspend":
            suspends = chance.randint(1, 2) if kind == "suspend" else 0
            stalls = kind == "step" and chance.random() < 0.3
            one = _unit(name, chance)
            plain = one.plain and (plain_stalls or not stalls)
            return StepSpec(name, Unit(name, plain, one.compensated), suspends, conditional, retries, stalls)
        case "parallel":
            return ParallelSpec(name, units, conditional, retries)
        case "route":
            return RouteSpec(name, units, conditional, retries)
        case "loop":
            flags = [chance.random() < 0.5 for _ in range(3)]
            pause = unit * chance.random() if chance.random() < 0.5 else 0.0
            one = _unit(name, chance)
            return LoopSpec(name, one, chance.randint(1, 3), flags[0], flags[1], flags[2], pause, conditional, retries)
        case "sleep":
            return SleepSpec(name, unit * 2 * chance.random(), chance.random() < 0.5, conditional)
        case "wait":
            timeout = unit * chance.uniform(1, 10) if chance.random() < 0.6 else None
            signal = chance.choice(("ping", "pong", name))
            return WaitSpec(name, signal, timeout, timeout is not None and chance.random() < 0.7, conditional)
        case _:
            return ChildSpec(name, chance.choice(children), chance.random() < 0.7, chance.random() < 0.6, conditional)


def _unit(name: str, chance: random.Random) -> Unit:
    return Unit(name, chance.random() < 0.3, chance.random() < 0.6)


def with_attempted(design: Design, seed: int) -> Design:
    """The design with compensators, some of them, that are also for what failed and may have been called."""
    chance = random.Random(f"attempted {seed} {design.name}")

    def drawn(unit: Unit) -> Unit:
        return replace(unit, attempted=unit.compensated and chance.random() < ATTEMPTED)

    specs: list[Spec] = []
    for spec in design.specs:
        match spec:
            case StepSpec() | LoopSpec():
                specs.append(replace(spec, unit=drawn(spec.unit)))
            case ParallelSpec() | RouteSpec():
                specs.append(replace(spec, units=tuple(map(drawn, spec.units))))
            case ChildSpec():
                specs.append(replace(spec, attempted=spec.compensated and chance.random() < ATTEMPTED))
            case _:
                specs.append(spec)
    return replace(design, specs=tuple(specs))


def with_sub_steps(design: Design, seed: int) -> Design:
    """The design with handlers, some of the async ones, that have sub-steps."""
    chance = random.Random(f"sub-steps {seed} {design.name}")

    def drawn(unit: Unit) -> Unit:
        return replace(unit, sub_steps=0 if unit.plain else chance.choice((0, 1, 2, 3)))

    specs: list[Spec] = []
    for spec in design.specs:
        match spec:
            case StepSpec(stalls=True):
                specs.append(spec)
            case StepSpec() | LoopSpec():
                specs.append(replace(spec, unit=drawn(spec.unit)))
            case ParallelSpec() | RouteSpec():
                specs.append(replace(spec, units=tuple(map(drawn, spec.units))))
            case _:
                specs.append(spec)
    return replace(design, specs=tuple(specs))
