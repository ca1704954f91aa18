"""The path that a run's journal must follow, row by row: derived from its design, without code of the engine."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

from tests.simulation.designs import ChildSpec, LoopSpec, ParallelSpec, RouteSpec, SleepSpec, StepSpec, WaitSpec
from tests.simulation.trace import key_name, kind_of, outcome_name

if TYPE_CHECKING:
    from tests.simulation.designs import Design, Spec

Wrong: TypeAlias = tuple[str, str] | None
_KINDS = {
    StepSpec: {"step"},
    ParallelSpec: {"step"},
    RouteSpec: {"route", "step"},
    LoopSpec: {"step"},
    SleepSpec: {"sleep"},
    WaitSpec: {"signal"},
    ChildSpec: {"child"},
}


class JournalPath:
    """One run's journal, folded as far as the invariants need."""

    def __init__(self, design: Design) -> None:
        self.seq = 0
        self.at = 0
        self.journaled: dict[str, None] = {}
        """The outcomes, in order."""
        self.tries: Counter[str] = Counter()
        """Failed attempts at each place since it was entered."""
        self.undoing = False
        self.is_canceling = False
        """Whether it was requested that the run is undone and canceled."""
        self._specs = design.specs
        self._nodes = {spec.name: at for at, spec in enumerate(design.specs)}
        self._entries = {name: at for at, spec in enumerate(design.specs) for name in _names(spec)}
        self._branches: dict[str, str] = {}
        self._completed: list[tuple[str, str]] = []
        self._failed = False

    def add(  # noqa: PLR0917  a row's columns, in their order
        self, seq: int, node: str, item: str, phase: str, n: int, kind: str, status: str, detail: bytes | None
    ) -> Wrong:
        """One more row; what is wrong with it."""
        wrong = self._wrong_place(seq, node, phase, kind)
        self.seq = seq
        name = outcome_name(node, item, phase, kind)
        if n:
            self.tries[name] = 0 if status == "suspended" else self.tries[name] + 1
            return wrong or (("I1", f"{name} {status} after its outcome") if name in self.journaled else None)
        if name in self.journaled:
            wrong = wrong or ("I1", f"{name} has a second outcome, {status}")
        self.journaled[name] = None
        if phase == "undo":
            return wrong or self._undo(node, item)
        if status == "failed":
            self._failed = True
            if phase == "do" and detail != b"uncalled" and self._is_compensated(self._spec, item, attempted=True):
                self._completed.append((node, item))
        elif status == "skipped":
            self.at += 1
        else:
            self._complete(node, item, phase, detail)
        return wrong

    def add_sub_step(self, seq: int, node: str, item: str, phase: str) -> Wrong:
        """The row of a sub-step; what is wrong with it."""
        before, self.seq = self.seq, seq
        if seq != before + 1:
            return ("I2", f"entry {seq} follows entry {before}")
        name = outcome_name(node, item, phase, "step")
        if name in self.journaled:
            return ("I17", f"a sub-step of {name} was journaled after its outcome")
        if phase == "undo":
            newest = self._completed[-1] if self._completed else None
            return (
                None if newest == (node, item) else ("I5", f"a sub-step undoes {node} {item}, the newest is {newest}")
            )
        if self.undoing or self._nodes.get(node) != self.at:
            return ("I2", f"a sub-step of {node} was journaled while the run is at node {self.at}")
        return None

    def objection(self, phase: str, step: str, iteration: int | None, attempt: int) -> Wrong:
        """What is wrong with calling a user's function now."""
        name = key_name(step, kind_of(phase), iteration)
        if name in self.journaled:
            return ("I1", f"{phase} of {name} began again after it was journaled")
        if phase in {"do", "undo"} and self.tries[name] != attempt - 1:
            return ("I2", f"{phase} of {name} began attempt {attempt} after {self.tries[name]} failed ones")
        if phase == "undo":
            if not self._failed and not self.is_canceling:
                return ("I5", f"{name} began to be undone though nothing had failed")
            if not self._completed or self._name(*self._completed[-1]) != step:
                return ("I5", f"{name} began to be undone, and {self._completed[-1:]} is the newest")
            return None
        if self.undoing:
            return ("I5", f"{phase} of {name} began while the run is undone")
        if self._entries.get(step, self._nodes.get(step)) != self.at:
            return ("I2", f"{phase} of {name} began while the run is at node {self.at}")
        return None

    @property
    def has_failed(self) -> bool:
        """Whether anything failed for good."""
        return self._failed

    def _wrong_place(self, seq: int, node: str, phase: str, kind: str) -> Wrong:
        if seq != self.seq + 1:
            return ("I2", f"entry {seq} follows entry {self.seq}")
        if phase == "undo":
            return None if self._failed or self.is_canceling else ("I5", f"{node} is undone though nothing had failed")
        if self.undoing:
            return ("I5", f"{node} went forward after compensation began")
        if self._nodes.get(node) != self.at:
            return ("I2", f"{kind} of {node} was journaled while the run is at node {self.at}")
        if kind not in _KINDS[type(self._specs[self.at])]:
            return ("I2", f"{node} has an entry of kind {kind}")
        return None

    def _undo(self, node: str, item: str) -> Wrong:
        self.undoing = True
        newest = self._completed.pop() if self._completed else None
        if newest != (node, item):
            return ("I5", f"{node} {item} was undone; the newest to undo is {newest}")
        return None

    def _complete(self, node: str, item: str, phase: str, detail: bytes | None) -> None:
        spec = self._spec
        if phase == "choose":
            self._branches[node] = (detail or b"").decode()
            return
        if self._is_compensated(spec, item):
            self._completed.append((node, item))
        if isinstance(spec, ParallelSpec):
            whole = all(key_name(unit.name, "step", None) in self.journaled for unit in spec.units)
            self.at += whole and not self._failed
        elif not isinstance(spec, LoopSpec) or detail == b"end":
            self.at += 1

    @property
    def _spec(self) -> Spec:
        """Of the node it is at."""
        return self._specs[min(self.at, len(self._specs) - 1)]

    def _is_compensated(self, spec: Spec, item: str, *, attempted: bool = False) -> bool:
        """Whether what completed there is undone, or with `attempted` what failed there."""
        match spec:
            case StepSpec():
                found = [spec.unit]
            case LoopSpec():
                found = [spec.unit] if item else []
            case ParallelSpec():
                found = [unit for unit in spec.units if unit.name == item]
            case RouteSpec():
                found = [unit for unit in spec.units if unit.name == self._branches.get(spec.name)]
            case ChildSpec():
                return spec.attempted if attempted else spec.compensated
            case _:
                return False
        return any(unit.attempted if attempted else unit.compensated for unit in found)

    def _name(self, node: str, item: str) -> str:
        return item if item and not item.startswith("#") else node


def _names(spec: Spec) -> list[str]:
    return [unit.name for unit in spec.units] if isinstance(spec, ParallelSpec) else []
