"""The plan of a history, drawn from its seed: workflows, runs, workers and fault_plan; and what was taken out of it.

Everything that can be taken out has a name, and taking it out draws nothing anew: `root:1` is the second run that the
client starts, `node:root-0/2` the third node of a workflow, `away` every absence of the store and `away:3` its fourth
one, `cancels` all of the client's. So a history that fails can be made smaller without becoming another one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.simulation.client import Manner
from tests.simulation.designs import KINDS, LEVELS, Design, StepSpec, designs_from, with_attempted, with_sub_steps
from tests.simulation.wide import NARROW, Wide, wide_of

if TYPE_CHECKING:
    from collections.abc import Iterable

LONG = 0.005
"""The share of histories with many runs; the others are short, with faults as dense."""
RATES = {
    "away": 0.03,
    "forgets": 0.03,
    "kills before": 0.012,
    "kills after": 0.012,
    "slow": 0.02,
    "breaks": 0.02,
    "busy": 0.06,
    "repeats": 0.05,
    "refuses": 0.01,
    "wakes for nothing": 0.05,
    "wakes late": 0.05,
}
"""How likely each fault is at each call of the store, where a history has it."""
EVENTS = {
    "kill": 1.0,
    "kill at any await": 0.0,
    "freeze": 1.0,
    "block": 0.6,
    "clock jump": 0.5,
    "steal": 0.5,
    "stop": 1.0,
    "recover": 0.5,
}
"""What befalls a worker process from outside, by weight; a kill at any await is counted in turns of its event loop."""
COMPENSATORS = "~"
"""What stands in an input for a step's name when all compensators of the run kill their workers."""
UNDONE_IN_VAIN = 0.5
"""The share of histories with such inputs, of those without another poison where a run may be given up for crashes."""
CANCELS, EARLY, FLOODS = "cancels", "early letters", "floods"
BUSY_PARENT, FULL_DISK, DELETED = "busy parent", "full disk", "deleted run"
"""Faults and events of the second generation alone."""
ATTEMPTED_IN = 0.5
"""The share of histories with compensators that are also for what failed and may have been called."""
SUB_STEPS_IN = 0.4
"""The share of histories with handlers that have sub-steps."""
NEVER = 1_000_000
HURRIES = ("entering is cancelled", "stop is cancelled")
"""What befalls a worker that comes or goes; how often, no plan says."""
ALL_KINDS = (*RATES, *EVENTS, *HURRIES, CANCELS, EARLY, FLOODS)


class Theme(NamedTuple):
    """What some histories are about, since by chance alone it would be too rare."""

    share: float
    kinds: tuple[str, ...]
    rates: dict[str, float]
    max_crashes: int


THEMES = {
    "deaths at deadlines": Theme(0.08, ("step", "wait", "wait"), {"kills after": 0.12}, 1),
    "held threads": Theme(0.03, ("step",), RATES, 2),
    "refusals": Theme(0.03, ("step", "parallel", "loop"), {"refuses": 0.3, "away": 0.02}, 3),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed says about its history."""

    seed: int
    without: frozenset[str]
    theme: str
    designs: dict[str, Design]
    inputs: tuple[tuple[str, dict[str, Any]], ...]
    """The runs that the client starts: workflow and input."""
    workers: int
    threads: int
    unit: float
    lease: float
    fault_seconds: float
    event_seconds: float
    """From one event to the next, on average."""
    max_crashes: int
    rates: dict[str, float]
    events: dict[str, float]
    turns: float
    """After how many turns of its event loop a process dies, on average; 0: it does not."""
    locks_tell: bool
    """Whether the store knows at once that a process is gone."""
    manner: Manner
    wide: Wide = NARROW
    """What the second generation has besides."""

    @property
    def elements(self) -> list[str]:
        """What can be taken out without counting what happens: kinds of faults, runs and nodes; the largest first."""
        kinds = [*self.rates, *self.events, *HURRIES, CANCELS, EARLY, FLOODS]
        roots = [f"root:{at}" for at in range(len(self.inputs))] if len(self.inputs) > 1 else []
        nodes = [f"node:{design.name}/{spec.name}" for design in self.designs.values() for spec in design.specs]
        workers = ["workers"] if self.workers > 1 else []
        wide = self.wide.elements
        return [one for one in (*wide, *kinds, *workers, *roots, *nodes) if one not in self.without]


def plan_of(seed: int, without: Iterable[str] = ()) -> Plan:
    """The plan of this seed, without these of its elements."""
    out = frozenset(without)
    chance = random.Random(f"plan {seed}")
    long = chance.random() < LONG
    unit = 0.08
    theme = "" if long else chance.choices((*THEMES, ""), (*(one.share for one in THEMES.values()), 1.0))[0]
    most = 5 if long else chance.choice((1, 2, 2, 3, 4))
    kinds = THEMES[theme].kinds if theme else KINDS
    fewest = 3 if theme == "deaths at deadlines" else None
    most = max(most, fewest or 0)
    wide = wide_of(seed)
    if wide.crowd:
        most = min(most, 2)
    designs = designs_from(
        seed,
        unit=unit,
        per_level=1,
        most=min(most, len(kinds)),
        small=not long,
        plain_stalls=True,
        kinds=kinds,
        fewest=fewest,
        levels=LEVELS if not wide.deep else ("root", *(f"level{at}" for at in range(1, wide.deep)), "leaf"),
        nested=wide.deep > 0,
    )
    if wide.gives_up:
        designs = {name: _giving_up(design) for name, design in designs.items()}
    if random.Random(f"attempted {seed}").random() < ATTEMPTED_IN:
        designs = {name: with_attempted(design, seed) for name, design in designs.items()}
    if random.Random(f"sub-steps {seed}").random() < SUB_STEPS_IN:
        designs = {name: with_sub_steps(design, seed) for name, design in designs.items()}
    number = chance.randrange(1000)
    runs = chance.randint(3, 5) if long else chance.choice((1, 1, 1, 2))
    runs = wide.crowd or runs
    inputs: list[tuple[str, dict[str, Any]]] = [("root-0", {"number": number + at}) for at in range(runs)]
    poisoned = chance.random() < 0.15
    steps = [spec.name for spec in designs["root-0"].specs if isinstance(spec, StepSpec) and not spec.suspends]
    if poisoned and steps:
        inputs[-1][1]["poison"] = chance.choice(steps)
    max_crashes = chance.choice((1, 2, 3)) if poisoned or chance.random() < 0.3 else NEVER
    density = chance.choice((0.5, 1.0, 1.0, 2.0))
    rates = {kind: rate * density for kind, rate in RATES.items() if chance.random() < 0.6}
    events = {kind: weight for kind, weight in EVENTS.items() if chance.random() < 0.6}
    if theme:
        events, rates, max_crashes = {}, THEMES[theme].rates, THEMES[theme].max_crashes
    elif not poisoned and max_crashes != NEVER and random.Random(f"poison {seed}").random() < UNDONE_IN_VAIN:
        for _, given in inputs:
            given["poison"] = COMPENSATORS
    turns = chance.choice((60.0, 200.0, 600.0)) if "kill at any await" in events else 0.0
    manner = Manner(
        looks_every=chance.uniform(0.05, 0.2),
        lives_for=chance.uniform(0.1, 1.0),
        most_live=max(6, wide.crowd),
        cancels=chance.choice((0.0, 0.0, 0.1, 0.5)),
        early=chance.choice((0.0, 0.1, 0.3)),
        tires=1.1,
        by_status=False,
        floods=random.Random(f"floods {seed}").choice((0.0, 0.0, 0.0, 0.0, 0.5)),
        start_many=wide.start_many,
        delays=wide.delays,
        shared_keys=wide.shared_keys,
        second_cancels=wide.second_cancels,
        sizes=wide.sizes,
        compensates=random.Random(f"compensates {seed}").choice((0.0, 0.5, 1.0)) if wide == NARROW else 0.0,
    )
    if wide.busy_parents:
        rates = {**rates, BUSY_PARENT: wide.busy_parents}
    if wide.full_disk:
        events = {**events, FULL_DISK: 1.0}
    if wide.deleted_rows:
        events = {**events, DELETED: 1.0}
    plan = Plan(
        seed=seed,
        without=out,
        theme=theme,
        designs=designs,
        inputs=tuple(inputs),
        workers=chance.choice((1, 1, 2, 2, 3)),
        threads=1 if theme else chance.choice((1, 2, 32)),
        unit=unit,
        lease=0.6,
        fault_seconds=chance.uniform(1, 5) if long else chance.uniform(0.3, 1.5),
        event_seconds=chance.choice((0.1, 0.2, 0.5)),
        max_crashes=max_crashes,
        rates=rates,
        events=events,
        turns=turns,
        locks_tell=chance.random() < 0.7,
        manner=manner,
        wide=wide,
    )
    return _reduced(plan) if out else plan


def _giving_up(design: Design) -> Design:
    """The design with exceptions at which its usual steps give up."""
    usual = (isinstance(spec, StepSpec) and not spec.suspends and not spec.stalls for spec in design.specs)
    given = zip(design.specs, usual, strict=True)
    specs = (replace(spec, gives_up=True) if isinstance(spec, StepSpec) and fits else spec for spec, fits in given)
    return replace(design, specs=tuple(specs))


def _reduced(plan: Plan) -> Plan:
    """The plan without what was taken out, but for what is counted while it is played."""
    out = plan.without
    manner, wide = plan.manner, plan.wide.without(out)
    designs = {
        name: replace(design, specs=tuple(one for one in design.specs if f"node:{name}/{one.name}" not in out))
        for name, design in plan.designs.items()
    }
    return replace(
        plan,
        designs={name: design if design.specs else plan.designs[name] for name, design in designs.items()},
        inputs=tuple(one for at, one in enumerate(plan.inputs) if f"root:{at}" not in out) or plan.inputs[:1],
        workers=1 if "workers" in out else plan.workers,
        rates={kind: rate for kind, rate in plan.rates.items() if kind not in out},
        events={kind: weight for kind, weight in plan.events.items() if kind not in out},
        turns=0.0 if "kill at any await" in out else plan.turns,
        manner=replace(
            manner,
            cancels=0.0 if CANCELS in out else manner.cancels,
            early=0.0 if EARLY in out else manner.early,
            floods=0.0 if FLOODS in out else manner.floods,
            start_many=wide.start_many,
            delays=wide.delays,
            shared_keys=wide.shared_keys,
            second_cancels=wide.second_cancels,
            sizes=wide.sizes,
        ),
        wide=wide,
    )
