"""How long it takes until others go on with what a killed worker had begun, told from the handlers' log."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.simulation.story import Line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scripts.torture_parts.crew import Toll
    from scripts.torture_parts.places import Outage
    from tests.simulation.story import Story


@dataclass(slots=True)
class Recovery:
    """Seconds from a kill until the call that it cut off was begun again, and until its run had an entry more."""

    cut_off: int = 0
    calls: list[float] = field(default_factory=list)
    entries: list[float] = field(default_factory=list)


def recovery_in(story: Story, toll: Toll, killed: Mapping[str, float], outages: Sequence[Outage]) -> Recovery:
    """The recoveries of a story; `killed`: who, when.

    Whoever takes the run over and is killed or frozen in his turn begins the count anew. While the store is away nobody
    can recover anything: what is cut off then is counted from its return.
    """
    found = Recovery()
    blows = defaultdict[str, list[float]](list)
    for blow in toll.blows:
        for run_id in blow.held:
            blows[run_id].append(min(blow.at, killed.get(blow.who, blow.at)))
    finished = {one: sorted(e.finished_at.timestamp() for e in entries) for one, entries in story.journals.items()}
    ended = {line.token for line in story.lines if line.event == "end"}
    for line, again in _begun_again(story.lines):
        if line.token in ended or line.who in toll.frozen or again.at < killed.get(line.who, again.at + 1):
            continue
        at = max([killed[line.who], *(blow for blow in blows[line.run_id] if blow < again.at)])
        found.cut_off += 1
        found.calls.append(_between(at, again.at, outages))
        entry = next((one for one in finished[line.run_id] if one > again.at), None)
        if entry is not None and not any(again.at <= blow < entry for blow in blows[line.run_id]):
            found.entries.append(_between(at, entry, outages))
    return found


def _begun_again(lines: Sequence[Line]) -> list[tuple[Line, Line]]:
    """Each call that was begun again as the same attempt, with the next one."""
    calls = defaultdict[tuple[str, str, int], list[Line]](list)
    for line in sorted(lines, key=lambda line: line.at):
        if line.event == "begin" and line.phase in {"do", "undo"}:
            calls[line.key, line.phase, line.attempt].append(line)
    return [pair for again in calls.values() for pair in pairwise(again)]


def _between(since: float, until: float, outages: Sequence[Outage]) -> float:
    returned = [up for down, up in outages if since < up <= until]
    return until - max([since, *returned])
