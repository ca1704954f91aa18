"""What a run should do, told from its design, its input and what came from outside, and by no code of the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from tests.simulation.acts import (
    Act,
    act_of,
    asked_in_vain,
    branch_of,
    child_number,
    gives_up,
    holds,
    last_turn,
    place_of,
)
from tests.simulation.designs import (
    ChildSpec,
    Design,
    LoopSpec,
    ParallelSpec,
    RouteSpec,
    SleepSpec,
    Spec,
    StepSpec,
    Unit,
    WaitSpec,
)

Key: TypeAlias = tuple[str, str, int | None]
"""What there is one outcome of: the node or entry, the entry's kind, the iteration."""
DEFAULT_RETRIES = 3


@dataclass(slots=True)
class Expected:
    """One outcome, and the rows before it."""

    key: Key
    status: str = "completed"
    failure: str | None = None
    value: Any = None
    retrying: int = 0
    suspended: int = 0
    last_attempt: int = 1
    undo: Act | None = None
    """What its compensator does, if it completed."""
    attempted: Act | None = None
    """What its compensator does, if it failed and may have been called."""
    undo_retries: int = DEFAULT_RETRIES
    optional: bool = False

    @property
    def to_undo(self) -> Act | None:
        """What its compensator does, if it is to be undone as it ended."""
        return self.attempted if self.status == "failed" else self.undo

    def undone(self) -> tuple[str, int]:
        """How its compensation ends, and after how many failed attempts."""
        act = self.to_undo or Act(0, "", "returns")
        fails = 10 if act.end == "exhausts" else act.fails
        return ("failed", self.undo_retries) if fails > self.undo_retries else ("completed", fails)


@dataclass(slots=True)
class ChildEnd:
    """How a child ended."""

    status: str
    results: Any = None
    message: str = ""


class Facts(Protocol):
    """What came from outside to one run."""

    def letter(self, signal: str) -> Any:
        """The payload of the next letter of that name, as `(payload,)`; None when there is none."""

    def times_out(self, node: str) -> bool:
        """Whether the journal says so."""

    def child(self, workflow: str) -> ChildEnd | None:
        """How the next child ended; None if it has not, or was never spawned."""

    def imposed(self, key: Key) -> str | None:
        """The failure by which an outcome was imposed that no act tells: by crashes, or by the store."""


@dataclass(slots=True)
class ExpectedPath:
    """What should be in a run's journal, stage by stage; `open` when the facts do not tell more."""

    stages: list[list[Expected]] = field(default_factory=list)
    begins: dict[str, int] = field(default_factory=dict)
    """Each node's first stage."""
    end: Literal["completed", "failed", "open"] = "completed"
    results: dict[str, Any] = field(default_factory=dict)


def expected_path_of(design: Design, given: dict[str, Any], facts: Facts) -> ExpectedPath:
    """The path of a run of this design with this input."""
    path = ExpectedPath()
    for spec in design.specs:
        if not _Node(design, given, facts, path).passes(spec):
            break
    return path


class _Node:
    """One node's share in the path."""

    def __init__(self, design: Design, given: dict[str, Any], facts: Facts, path: ExpectedPath) -> None:
        self._design = design
        self._given = given
        self._number: int = given["number"]
        self._facts = facts
        self._path = path

    def passes(self, spec: Spec) -> bool:
        """Adds the node's stages; whether the run goes on after them."""
        self._path.begins[spec.name] = len(self._path.stages)
        in_vain = 0
        first = _first_key(spec)
        if not isinstance(spec, (ParallelSpec, LoopSpec)) and self._facts.imposed(first):
            return self._add(self._struck(spec, Expected(first)))
        if spec.conditional:
            in_vain = asked_in_vain(self._number, self._design.name, f"{spec.name} when")
            if not holds(self._number, self._design.name, spec.name):
                return self._skips(spec, in_vain)
        if self._given.get("poison") == spec.name:
            poisoned = Expected((spec.name, "step", None), "failed", "CrashLimit", retrying=in_vain)
            return self._add(self._undo(poisoned, spec.unit, spec.retries) if isinstance(spec, StepSpec) else poisoned)
        match spec:
            case StepSpec():
                goes_on = self._step(spec, in_vain)
            case ParallelSpec():
                goes_on = self._parallel(spec)
            case RouteSpec():
                goes_on = self._route(spec, in_vain)
            case LoopSpec():
                goes_on = self._loop(spec)
            case SleepSpec():
                vain = in_vain + (self._vain(spec, "ask") if spec.asked else 0)
                goes_on = self._add(Expected((spec.name, "sleep", None), retrying=vain, last_attempt=vain + 1))
            case WaitSpec():
                goes_on = self._wait(spec, in_vain)
            case _:
                goes_on = self._child(spec, in_vain)
        return goes_on

    def _struck(self, spec: Spec, one: Expected) -> Expected:
        """An outcome that no act tells, of a node that may have been called."""
        if isinstance(spec, StepSpec):
            self._undo(one, spec.unit, spec.retries)
        if isinstance(spec, ChildSpec) and self._facts.child(spec.workflow) is not None and spec.attempted:
            one.attempted = self._undoing(spec.name)  # it was spawned before
        return one

    def _struck_unasked(self, spec: Spec) -> list[Expected]:
        """Outcomes that no act tells, of entries or an iteration whose condition was not seen to end.

        The journal does not tell a worker that died in the condition from one that died in the handler after it, so
        they count as called.
        """
        units = spec.units if isinstance(spec, ParallelSpec) else (spec.unit,) if isinstance(spec, LoopSpec) else ()
        retries = spec.retries if isinstance(spec, (ParallelSpec, LoopSpec)) else DEFAULT_RETRIES
        turn = 1 if isinstance(spec, LoopSpec) else None
        all_of = [self._undo(Expected((unit.name, "step", turn)), unit, retries) for unit in units]
        struck = [one for one in all_of if self._facts.imposed(one.key)]
        for one in struck:
            self._strike(one)
        return struck

    def _skips(self, spec: Spec, in_vain: int) -> bool:
        kinds = {RouteSpec: "route", SleepSpec: "sleep", WaitSpec: "signal", ChildSpec: "child"}
        kind = kinds.get(type(spec), "step")
        names = [unit.name for unit in spec.units] if isinstance(spec, ParallelSpec) else [spec.name]
        struck = self._struck_unasked(spec)
        if struck:
            if in_vain:
                self._path.stages.append([Expected((spec.name, "step", None), "asked", retrying=in_vain)])
            self._path.stages.append(struck)
            self._path.end = "failed"
            return False
        skipped = Expected((spec.name, kind, None), "skipped", retrying=in_vain, last_attempt=in_vain + 1)
        self._path.stages.append([skipped])
        self._path.results |= dict.fromkeys(names)
        return True

    def _add(self, one: Expected) -> bool:
        self._strike(one)
        self._path.stages.append([one])
        if one.status == "failed":
            self._path.end = "failed"
            return False
        if one.key[1] != "route":
            self._path.results[one.key[0]] = one.value
        return True

    def _strike(self, one: Expected) -> None:
        """What befell an outcome takes the place of what its act tells."""
        failure = self._facts.imposed(one.key)
        if failure is not None:
            one.status, one.failure, one.value = "failed", failure, None

    def _vain(self, spec: Spec, what: str) -> int:
        return asked_in_vain(self._number, self._design.name, f"{spec.name} {what}")

    def _tried(self, key: Key, act: Act, retries: int, offset: int = 0) -> Expected:
        """The outcome of a handler that behaves like this, after `offset` failed attempts of its condition."""
        fails = offset + (100 if act.end == "exhausts" else act.fails)
        if fails > retries:
            failure = "TimeoutError" if self._stalls_last(act, retries, offset) else "ValueError"
            failure = {"retry": "Retry", "cancel": "CancelledError", "leave": "CancelledError"}.get(act.how, failure)
            return Expected(key, "failed", failure, retrying=retries, last_attempt=retries + 1)
        done = Expected(key, retrying=fails, last_attempt=fails + 1)
        if act.end == "aborts":
            done.status, done.failure = "failed", "Abort"
        if act.end == "unstorable":
            done.status, done.failure = "failed", "PayloadError"
        return done

    def _stalls_last(self, act: Act, retries: int, offset: int) -> bool:
        return act.how == "stall" and retries + 1 - offset <= act.fails

    def _undo(self, one: Expected, unit: Unit, retries: int) -> Expected:
        if unit.compensated:
            one.undo, one.undo_retries = self._undoing(unit.name, one.key[2]), retries
            one.attempted = one.undo if unit.attempted else None
        return one

    def _undoing(self, name: str, iteration: int | None = None) -> Act:
        return act_of(self._number, self._design.name, place_of(name, iteration), undo=True)

    def _told(self, unit: Unit, extra: tuple[str, ...] = ()) -> dict[str, Any]:
        return {"at": unit.name, "number": self._number, "saw": sorted({*self._path.results, *extra})}

    def _step(self, spec: StepSpec, in_vain: int) -> bool:
        key: Key = (spec.name, "step", None)
        retrying, resumed = 0, None
        for entries in range(spec.suspends + 1):
            if spec.gives_up and gives_up(self._number, self._design.name, spec.name):
                given_up = Expected(key, "failed", "GivenUpError", retrying=in_vain, last_attempt=in_vain + 1)
                return self._add(self._undo(given_up, spec.unit, spec.retries))
            act = act_of(self._number, self._design.name, place_of(spec.name, None, entries), stalls=spec.stalls)
            one = self._tried(key, act, spec.retries, in_vain if entries == 0 else 0)
            one.retrying += retrying
            one.suspended = entries
            retrying = one.retrying
            if one.status == "failed":
                return self._add(self._undo(one, spec.unit, spec.retries))
            if entries == spec.suspends:
                one.value = self._told(spec.unit, (spec.name,) if entries else ())
                if entries:
                    one.value["resumed"] = resumed
                return self._add(self._undo(one, spec.unit, spec.retries))
            letter = self._facts.letter(spec.name)
            if letter is None:
                one.status, one.suspended = "open", entries + 1
                self._undo(one, spec.unit, spec.retries)
                self._path.stages.append([one])
                self._path.end = "open"
                return False
            (resumed,) = letter
        raise AssertionError(spec)

    def _parallel(self, spec: ParallelSpec) -> bool:
        stage = []
        for unit in spec.units:
            act = act_of(self._number, self._design.name, place_of(unit.name))
            one = self._tried((unit.name, "step", None), act, spec.retries)
            one.value = self._told(unit) if one.status == "completed" else None
            self._strike(self._undo(one, unit, spec.retries))
            stage.append(one)
        in_vain = self._vain(spec, "when") if spec.conditional else 0
        if in_vain:
            asked = Expected((spec.name, "step", None), "asked", retrying=in_vain)
            self._path.stages.append([asked])
        self._path.stages.append(stage)
        if any(one.status == "failed" for one in stage):
            for one in stage:
                one.optional = True
            self._path.end = "failed"
            return False
        self._path.results |= {one.key[0]: one.value for one in stage}
        return True

    def _route(self, spec: RouteSpec, in_vain: int) -> bool:
        names = tuple(unit.name for unit in spec.units)
        fails = in_vain + self._vain(spec, "choose")
        chosen = branch_of(self._number, self._design.name, spec.name, names)
        choice = Expected((spec.name, "route", None), value=chosen, retrying=fails, last_attempt=fails + 1)
        if fails > spec.retries:
            choice.status, choice.failure, choice.retrying = "failed", "ValueError", spec.retries
            choice.last_attempt = spec.retries + 1
        elif chosen not in names:
            choice.status, choice.failure = "failed", "UnknownBranch"
        if not self._add(choice):
            return False
        unit = next(unit for unit in spec.units if unit.name == chosen)
        act = act_of(self._number, self._design.name, place_of(unit.name))
        one = self._tried((spec.name, "step", None), act, spec.retries)
        one.value = self._told(unit)
        return self._add(self._undo(one, unit, spec.retries))

    def _loop(self, spec: LoopSpec) -> bool:
        if spec.conditional and self._vain(spec, "when"):
            self._path.stages.append([Expected((spec.name, "step", None), "asked", retrying=1)])
        value: Any = {"first": self._number, "of": spec.name} if spec.maps else self._given
        last = last_turn(self._number, self._design.name, spec.name, spec.turns)
        saw = sorted(self._path.results)
        for turn in range(1, spec.turns + 1):
            act = act_of(self._number, self._design.name, place_of(spec.name, turn))
            one = self._tried((spec.name, "step", turn), act, spec.retries)
            one.value = {"turn": turn, "given": value, "saw": saw, "stops": turn >= last}
            if one.failure == "ValueError" and act.how == "stall":
                raise AssertionError("a loop never stalls")
            if not self._add(self._undo(one, spec.unit, spec.retries)):
                self._path.results.pop(spec.name, None)  # a loop that did not end has no result
                return False
            if spec.until and turn >= last:
                break
            value = {"after": turn} if spec.feedback else value
        return True

    def _wait(self, spec: WaitSpec, in_vain: int) -> bool:
        one = Expected((spec.name, "signal", None), retrying=in_vain, last_attempt=in_vain + 1)
        if spec.timeout is not None and self._facts.times_out(spec.name):
            one.value = {"default": spec.name} if spec.default else None
            if not spec.default:
                one.status, one.failure = "failed", "SignalTimeout"
            return self._add(one)
        letter = self._facts.letter(spec.signal)
        if letter is None:
            return self._stays_open(one)
        (one.value,) = letter
        return self._add(one)

    def _child(self, spec: ChildSpec, in_vain: int) -> bool:
        fails = in_vain + (self._vain(spec, "map") if spec.maps else 0)
        one = Expected((spec.name, "child", None), retrying=fails, last_attempt=fails + 1)
        end = self._facts.child(spec.workflow)
        if end is None:
            return self._stays_open(one)
        if end.status != "completed":
            one.status = "failed"
            one.failure = "ChildCanceled" if end.status == "canceled" else "ChildFailed"
            one.attempted = self._undoing(spec.name) if spec.attempted else None
            return self._add(one)
        one.value = end.results
        if spec.compensated:
            one.undo = self._undoing(spec.name)
        return self._add(one)

    def _stays_open(self, one: Expected) -> bool:
        one.status = "open"
        self._path.stages.append([one])
        self._path.end = "open"
        return False


def _first_key(spec: Spec) -> Key:
    """The first outcome that a node may have."""
    if isinstance(spec, ParallelSpec):
        return (spec.units[0].name, "step", None)
    kinds = {RouteSpec: "route", SleepSpec: "sleep", WaitSpec: "signal", ChildSpec: "child"}
    return (spec.name, kinds.get(type(spec), "step"), 1 if isinstance(spec, LoopSpec) else None)


def child_input(spec: ChildSpec, given: dict[str, Any]) -> dict[str, Any]:
    """What a child is given."""
    return {"number": child_number(given["number"], spec.name)} if spec.maps else given
