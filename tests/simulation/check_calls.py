"""The handlers' own log of one run against its journal: what began, when it might, what it saw, what was kept."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from tests.simulation.trace import Line, digest, key_name, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepwell import Entry
    from tests.simulation.model import ExpectedPath
    from tests.simulation.trace import Trace

_OUTCOMES = ("completed", "failed", "skipped")


def check_calls(lines: list[Line], entries: list[Entry], path: ExpectedPath, trace: Trace) -> list[str]:
    """What the calls of one run show that should not be."""
    begun = [line for line in lines if line.event == "begin"]
    was_asked = bool(lines) and trace.is_asked(lines[0].run_id, trace.cancel_asked)
    undoing = [] if was_asked else [line for line in begun if line.phase == "undo"]
    return [
        *_started_too_early([one for one in begun if one.who not in trace.late], entries, path, was_asked=was_asked),
        *_saw_what_was_not_journaled(begun, entries),
        *_journaled_what_nobody_returned(lines, entries),
        *_begun_again(
            [one for one in begun if one.who not in trace.late and one.run_id not in trace.refused], trace.stopped
        ),
        *_keys(begun),
        *_undone_without_results(undoing, entries, path),
        *_undone_by_other_keys(begun, trace),
    ]


def _started_too_early(
    begun: list[Line], entries: list[Entry], path: ExpectedPath, *, was_asked: bool
) -> Iterable[str]:
    """I2: all that precedes a call was journaled when it began, and its own outcome was not."""
    stage_of: dict[str, int] = {}
    before: list[set[str]] = []
    names: set[str] = set()
    for at, expected in enumerate(path.stages):
        before.append(set(names))
        for one in expected:
            name = key_name(*one.key)
            stage_of[name] = at
            if one.status in _OUTCOMES and not one.optional:
                names.add(name)
    undone = [
        key_name(e.node, e.kind, e.iteration) for e in entries if e.kind == "compensate" and e.status in _OUTCOMES
    ]
    for line in begun:
        own, journaled = key_name(line.step, kind_of(line.phase), line.iteration), set(line.journaled)
        stage = path.begins.get(line.step) if line.phase == "when" else stage_of.get(own)
        if line.phase == "undo":
            earlier = set(undone[: undone.index(own)]) if own in undone else set()
            has_failed = any(stage_of.get(name) == len(path.stages) - 1 for name in journaled)
            if not has_failed and not was_asked:
                yield f"I5: {own} began to be undone though nothing had failed: {line.journaled}"
        elif stage is None:
            earlier = set()
            yield f"I2: {line.phase} of {own} began, which the path does not have"
        else:
            earlier = before[stage]
        if not earlier <= journaled:
            yield f"I2: {line.phase} of {own} began before {sorted(earlier - journaled)} was journaled"
        if own in journaled:
            yield f"I1: {line.phase} of {own} began again after it was journaled"
        if line.phase in {"do", "undo"} and line.tries != line.attempt - 1:
            yield f"I2: {line.phase} of {own} began attempt {line.attempt} with {line.tries} failed ones journaled"


def _saw_what_was_not_journaled(begun: list[Line], entries: list[Entry]) -> Iterable[str]:
    results: dict[str, Any] = {}
    for entry in entries:
        if entry.kind not in {"compensate", "route"} and entry.status == "completed":
            results[entry.node] = digest(entry.result)
    for line in begun:
        for name, seen in line.saw.items():
            if name != line.step and seen != results.get(name, digest(None)):
                yield f"I2: {line.phase} of {line.step} saw {name} as {seen}, journaled is {results.get(name)}"


def _journaled_what_nobody_returned(lines: list[Line], entries: list[Entry]) -> Iterable[str]:
    returned = defaultdict[tuple[str, int | None], set[str]](set)
    for line in lines:
        if line.event == "end" and line.phase == "do":
            returned[line.step, line.iteration].add(line.token)
    for entry in entries:
        if entry.kind == "step" and entry.status == "completed":
            token = entry.result["token"]
            if token not in returned[entry.node, entry.iteration]:
                yield f"I3: {entry.node} has {token} journaled, which no call returned"


def _begun_again(begun: list[Line], stopped: set[str]) -> Iterable[str]:
    """A handler is called again only after a failed attempt, or when whoever called it was stopped."""
    calls = defaultdict[tuple[str, str, int], list[Line]](list)
    for line in begun:
        if line.phase in {"do", "undo"}:
            calls[line.key, line.phase, line.attempt].append(line)
    for (key, _, attempt), again in calls.items():
        innocent = [line.who for line in again[:-1] if line.who not in stopped]
        if innocent:
            yield f"again: attempt {attempt} of {key} began {len(again)} times, and {innocent} had not been stopped"


def _keys(begun: list[Line]) -> Iterable[str]:
    """One idempotency key means one place, whatever the attempt."""
    places = defaultdict[str, set[tuple[str, str, int | None]]](set)
    for line in begun:
        if line.phase in {"do", "undo"}:
            places[line.key].add((line.phase, line.step, line.iteration))
    yield from (f"key: {key} stands for {found}" for key, found in places.items() if len(found) > 1)


def _undone_by_other_keys(begun: list[Line], trace: Trace) -> Iterable[str]:
    """A compensator is told the keys by which what it undoes was called: all of them, and a child's id."""
    called = defaultdict[tuple[str, int | None], dict[str, None]](dict)
    for line in begun:
        if line.phase == "do":
            called[line.step, line.iteration][line.key] = None
    for line in begun:
        if line.phase == "undo":
            known = set(called[line.step, line.iteration]) or set(trace.children(line.run_id))
            if not known >= set(line.undoes) if line.step.startswith("child") else not known <= set(line.undoes):
                yield f"I5: the compensator of {line.step} was told {line.undoes}, called were {sorted(known)}"


def _undone_without_results(undoing: list[Line], entries: list[Entry], path: ExpectedPath) -> Iterable[str]:
    """A compensator sees all results as the run left them, those of a parallel that failed too."""
    entry_names = {one.key[0] for stage in path.stages for one in stage if one.optional}
    completed = [entry for entry in entries if entry.status == "completed" and entry.kind != "compensate"]
    done = {entry.node for entry in completed if entry.node in entry_names}
    for line in undoing:
        wanted = {*path.results, *done, line.step}
        if wanted != line.saw.keys():
            yield f"I5: the compensator of {line.step} saw {sorted(line.saw)}, not {sorted(wanted)}"
