"""The report of `crash_everywhere`: each crash point, how its run ended, and the handlers that are not idempotent."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stepwell.testing.ends import End

_WIDTH = 80
_SHOWN = 5
_VALUE = 300
_ENDS = ("alike", "compensated", "otherwise", "stuck", "missed")
_UNSEEN = "the effects of the failed runs are unknown; that they were compensated is judged by the journal alone"
_HELD = (
    "a stuck place names no handler: a lock, semaphore or pooled connection that the interrupted handler held stays "
    "held in this process; a process that really died would have released it"
)
_COUNTS = re.compile(r" (#\d+|\((attempt|entered again).*\))")


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """One place where the process died, and how the run ended. Frozen.

    - `place`: the place, as text.
    - `ended`: `alike` (like the run without a crash), `compensated` (it failed, and the probe found the initial state),
      `otherwise`, `stuck` (it did not end), or `missed` (it never reached the place).
    - `ran_twice`: the pieces of work whose function was called again for the same attempt.
    - `differences`: how the end differs from that of the run without a crash, as text.
    """

    place: str
    ended: str
    ran_twice: tuple[str, ...]
    differences: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the crash did no harm that the workflow or the probe can show."""
        return self.ended in {"alike", "compensated", "missed"}


@dataclass(frozen=True, slots=True)
class CrashReport:
    """The result of `crash_everywhere`; `str()` of it has at most 80 columns. Frozen.

    - `workflow`: the workflow's name.
    - `status`: the status of the run without a crash.
    - `points`: the crash points.
    - `not_idempotent`: the handlers and compensators ("undo " before the name) whose second call changes the probe's
      state or a result, each with the first point that showed it.
    - `ran_twice`: for each piece of work, the number of places at which it ran again.
    - `notes`: what could not be compared.
    - `seconds`: the duration.
    """

    workflow: str
    status: str
    points: tuple[CrashPoint, ...]
    not_idempotent: Mapping[str, CrashPoint]
    ran_twice: Mapping[str, int]
    notes: tuple[str, ...]
    seconds: float

    @property
    def reached(self) -> int:
        """The number of crash points that the run reached."""
        return sum(point.ended != "missed" for point in self.points)

    @property
    def harmful(self) -> tuple[CrashPoint, ...]:
        """The crash points that are not `ok`."""
        return tuple(point for point in self.points if not point.ok)

    @property
    def ok(self) -> bool:
        """Whether every run ended like the one without a crash, or fully compensated."""
        return not self.harmful

    def assert_ok(self) -> None:
        """Raises AssertionError with the report as its text, unless `ok`."""
        if not self.ok:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        return "\n".join((*self._head(), *self._blamed(), *self._harm(), *self._twice(), *self._noted()))

    def _head(self) -> Iterable[str]:
        found = Counter(point.ended for point in self.points)
        told = [f"{found[ended]} {ended}" for ended in _ENDS if found[ended]]
        head = f"{self.workflow}: {len(self.points)} crash points; undisturbed, it "
        yield from _wrapped(head + _has(self.status), "", "  ")
        yield f"  ended: {', '.join(told)}"

    def _blamed(self) -> Iterable[str]:
        if self.not_idempotent:
            yield "not idempotent: a second call shows"
        for name, point in self.not_idempotent.items():
            yield f"  {name}"
            yield from _wrapped(point.place, "    died ", "         ")
            for difference in point.differences:
                yield from _wrapped(difference, "    ", "      ")

    def _harm(self) -> Iterable[str]:
        told = set(self.not_idempotent.values())
        rest = [point for point in self._that("otherwise") if point not in told]
        yield from _listed("ended otherwise, too" if told else "ended otherwise", rest, differences=not told)
        yield from _listed("stuck", self._that("stuck"), differences=True)
        yield from _listed("failed, and were compensated", self._that("compensated"), differences=True)

    def _that(self, ended: str) -> list[CrashPoint]:
        return [point for point in self.points if point.ended == ended]

    def _twice(self) -> Iterable[str]:
        if self.ran_twice:
            told = ", ".join(f"{piece} ({times})" for piece, times in self.ran_twice.items())
            yield from _wrapped(told, "called again after a crash (number of places): ", "  ")

    def _noted(self) -> Iterable[str]:
        for note in self.notes:
            yield from _wrapped(note, "note: ", "  ")


def judged(
    workflow: str, before: str | None, undisturbed: list[End], ends: Mapping[str, End], *, seconds: float
) -> CrashReport:
    """The report: compares each end with that of the run without a crash, as far as two such runs are equal.

    `before` is the probe's state before the first run; None: there is no probe.
    """
    first, second = undisturbed
    unsteady = {name for name, value in first.results.items() if second.results.get(name) != value}
    notes = [f"{name} was not compared: its result differs without a crash, too" for name in sorted(unsteady)]
    if before is None:
        notes.append("no probe was given: what the handlers did outside was not compared")
    elif first.view != second.view:
        before = None
        seen = f"{_short(first.view)} and {_short(second.view)}"
        notes.append(f"the probe's view was not compared: two undisturbed runs gave {seen}")
    if first.failure != second.failure:
        notes.append(f"the failure was not compared: {first.failure} and {second.failure}")
    points = tuple(
        _point(place, end, first, unsteady, before=before, steady=first.failure == second.failure)
        for place, end in ends.items()
    )
    found = {point.ended for point in points}
    notes += [_UNSEEN] * (before is None and "compensated" in found) + [_HELD] * ("stuck" in found)
    twice = Counter(piece for point in points for piece in point.ran_twice)
    return CrashReport(workflow, first.status, points, _culprits(points), dict(twice), tuple(notes), seconds)


def _point(place: str, end: End, whole: End, unsteady: set[str], *, before: str | None, steady: bool) -> CrashPoint:
    twice = tuple(piece for piece, times in end.pieces.items() if times > max(1, whole.pieces[piece]))
    if end.stuck is not None:
        return CrashPoint(place, "stuck", twice, (end.stuck,))
    if not end.has_died:
        return CrashPoint(place, "missed", twice, ())
    if end.status == "failed" and whole.status == "completed":
        left = _left_behind(end, before)
        return CrashPoint(place, "otherwise" if left else "compensated", twice, (f"it failed: {end.failure}", *left))
    found = _differences(end, whole, unsteady, sees=before is not None, steady=steady)
    return CrashPoint(place, "otherwise" if found else "alike", twice, tuple(found))


def _left_behind(end: End, before: str | None) -> list[str]:
    """The effects that a failed run left, as text."""
    found = [f"not compensated: {', '.join(end.not_undone)}"] if end.not_undone else []
    if before is not None and end.view != before:
        found.append(f"it left the state {_short(end.view)}; before the run it was {_short(before)}")
    return found


def _differences(end: End, whole: End, unsteady: set[str], *, sees: bool, steady: bool) -> list[str]:
    found = []
    if end.status != whole.status:
        found.append(f"it {_has(end.status)}{f' ({end.failure})' if end.failure else ''}")
    for name in dict.fromkeys([*whole.results, *end.results]):
        one, other = whole.results.get(name, "nothing"), end.results.get(name, "nothing")
        if one != other and name not in unsteady:
            found.append(f"result of {name}: {_short(other)} instead of {_short(one)}")
    if steady and end.status == whole.status and end.failure != whole.failure:
        found.append(f"failure: {end.failure} instead of {whole.failure}")
    if end.undone != whole.undone:
        undone, expected = (", ".join(one.undone) or "nothing" for one in (end, whole))
        found.append(f"compensated: {undone} instead of {expected}")
    if end.undone_badly != whole.undone_badly:
        found.append(f"could not be compensated: {', '.join(end.undone_badly) or 'nothing'}")
    if sees and end.view != whole.view:
        found.append(f"the probe saw {_short(end.view)} instead of {_short(whole.view)}")
    return found


def _culprits(points: Iterable[CrashPoint]) -> dict[str, CrashPoint]:
    """The handlers that were called twice where harm was done: the only candidate at some place, else all candidates.

    Stuck places do not count: a process that really died would have released what it held.
    """
    harmful = [point for point in points if point.ended == "otherwise" and point.ran_twice]
    suspects = [(tuple(dict.fromkeys(_handler(piece) for piece in point.ran_twice)), point) for point in harmful]
    found: dict[str, CrashPoint] = {}
    for names, point in suspects:
        if len(names) == 1:
            found.setdefault(names[0], point)
    for names, point in suspects:
        if not found.keys() & set(names):
            found[" or ".join(names)] = point
    return found


def _handler(piece: str) -> str:
    """The handler's name: the piece of work without iteration, attempt and entry."""
    return _COUNTS.sub("", piece)


def _listed(title: str, points: list[CrashPoint], *, differences: bool) -> Iterable[str]:
    if points:
        yield f"{title}: {len(points)} place{'s' * (len(points) > 1)}"
    for point in points[:_SHOWN]:
        yield from _wrapped(point.place, "  ", "    ")
        for difference in point.differences if differences else ():
            yield from _wrapped(difference, "    ", "      ")
    if len(points) > _SHOWN:
        yield f"  … and {len(points) - _SHOWN} more"


def _has(status: str) -> str:
    return "was canceled" if status == "canceled" else status


def _short(text: str) -> str:
    return text if len(text) <= _VALUE else f"{text[: _VALUE - 1]}…"


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
