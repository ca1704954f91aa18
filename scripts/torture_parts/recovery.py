"""Measures from the handler log how long it takes until other workers continue the calls of a killed one."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.simulation.trace import Line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scripts.torture_parts.targets import Outage
    from scripts.torture_parts.worker_processes import Disruptions
    from tests.simulation.trace import Trace


@dataclass(slots=True)
class Recovery:
    """Seconds from a kill until the interrupted call was started again, and until its run had another entry."""

    interrupted: int = 0
    calls: list[float] = field(default_factory=list)
    entries: list[float] = field(default_factory=list)


def recovery_in(
    trace: Trace, disruptions: Disruptions, killed: Mapping[str, float], outages: Sequence[Outage]
) -> Recovery:
    """The recoveries in a trace; `killed` maps each killed worker to the time.

    If the worker that takes over a run is killed or frozen as well, the count restarts. No recovery is possible while
    the store is unavailable: a call that is interrupted then is counted from the end of the outage.
    """
    found = Recovery()
    interruptions = defaultdict[str, list[float]](list)
    for one in disruptions.interruptions:
        for run_id in one.held:
            interruptions[run_id].append(min(one.at, killed.get(one.who, one.at)))
    finished = {one: sorted(e.finished_at.timestamp() for e in entries) for one, entries in trace.journals.items()}
    ended = {line.token for line in trace.lines if line.event == "end"}
    for line, again in _restarted(trace.lines):
        if line.token in ended or line.who in disruptions.frozen or again.at < killed.get(line.who, again.at + 1):
            continue
        at = max([killed[line.who], *(other for other in interruptions[line.run_id] if other < again.at)])
        found.interrupted += 1
        found.calls.append(_between(at, again.at, outages))
        entry = next((one for one in finished[line.run_id] if one > again.at), None)
        if entry is not None and not any(again.at <= other < entry for other in interruptions[line.run_id]):
            found.entries.append(_between(at, entry, outages))
    return found


def _restarted(lines: Sequence[Line]) -> list[tuple[Line, Line]]:
    """Each call that was started again as the same attempt, with the next start."""
    calls = defaultdict[tuple[str, str, int], list[Line]](list)
    for line in sorted(lines, key=lambda line: line.at):
        if line.event == "begin" and line.phase in {"do", "undo"}:
            calls[line.key, line.phase, line.attempt].append(line)
    return [pair for again in calls.values() for pair in pairwise(again)]


def _between(since: float, until: float, outages: Sequence[Outage]) -> float:
    returned = [up for down, up in outages if since < up <= until]
    return until - max([since, *returned])
