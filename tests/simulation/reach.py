"""What histories reached, counted by name, and what a batch of them must reach: a generator that is weak is red."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING

from stepwell.core.statuses import TRANSITIONS
from tests.simulation.plan import EVENTS, RATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.simulation.simulated_history import Ended
    from tests.simulation.trace import Trace

UNREACHABLE = {
    ("suspended", "completed"): "a signal, a child's end and a timeout are journaled first, which makes it running",
}
"""Steps of the table that no single transaction takes."""
SPECIAL = ("buried alive", "stuck thread", "poison", "entering is cancelled", "stop is cancelled")
FAULTS = (*RATES, *EVENTS, *SPECIAL)
_CALLS = ("claim", "commit", "load", "deliver", "cancel", "start", "define", "enlist", "retire", "workers", "expire")
_ANY_CALL = (*_CALLS, "leased", "page", "journal", "snapshot")
_WHERE = {
    "away": (*_ANY_CALL, "changed", "beat"),
    "forgets": (*_ANY_CALL, "beat"),
    "slow": _ANY_CALL,
    "kills before": ("claim", "commit", "load", "define", "enlist", "retire", "workers", "expire", "leased"),
    "kills after": ("claim", "commit", "load", "define", "enlist", "retire", "workers", "expire", "leased"),
    "breaks": ("claim", "load", "workers", "leased"),
    "refuses": ("do", "undo"),
    "poison": ("do", "undo"),
}
_ENTRIES = {
    "step": ("completed", "failed", "skipped", "retrying", "suspended"),
    "route": ("completed", "failed", "skipped", "retrying"),
    "sleep": ("completed", "failed", "skipped", "retrying"),
    "signal": ("completed", "failed", "skipped", "retrying"),
    "child": ("completed", "failed", "skipped", "retrying"),
    "compensate": ("completed", "failed", "retrying"),
}
_NAMED = ("call ", "client: ", "decision ", "fault ", "verdict ")
_DECISIONS = ("record", "record quietly", "park", "spawn", "wait", "compensate", "complete", "fail", "give back")
_CLIENT = (
    "resume accepted",
    "resume refused",
    "signal accepted",
    "signal refused",
    "signals sent twice",
    "foreign signals",
    "calls made again",
    "cancel of a canceled root",
    "cancel of a canceled child",
)


def reached_by(ended: Ended) -> Counter[str]:
    """What one history reached."""
    found: Counter[str] = Counter()
    for (before, after), count in ended.transitions.items():
        found[f"transition {before or 'nothing'} to {after}"] += count
    for name, count in ended.seen.items():
        found[
            name if name.startswith(("call ", "client: ", "decision ", "fault ", "verdict ")) else f"entry {name}"
        ] += count
    kinds = set()
    for name, count in ended.met.items():
        if count:
            found[f"fault {name}"] += count
            kinds.add(name.split(", ")[0])
    for one, other in combinations(sorted(kinds & {*FAULTS}), 2):
        found[f"pair {one} + {other}"] += 1
    found.update(f"node {type(spec).__name__}" for design in ended.trace.designs.values() for spec in design.specs)
    found.update(f"run {run.status}" for run in ended.trace.snapshots.values())
    found["more than five roots"] += sum(run.parent_run_id is None for run in ended.trace.snapshots.values()) > 5
    found["tree deeper than two"] += _depth(ended.trace) > 2
    return found


WIDE = (
    "fault batch of many",
    "fault large value",
    "fault full claim",
    "fault slow load",
    "fault clocks apart",
    "fault other definitions",
    "fault full disk, refused",
    "fault deleted run, newest",
    "fault busy parent",
    "verdict busy",
    "client: delayed starts",
    "client: starts of many at once",
    "client: starts under another's key",
    "client: second cancels",
    "entry GivenUpError",
    "entry Retry",
    "tree deeper than two",
    "more than five roots",
)
"""What histories of the second generation must reach besides."""


def wanted() -> set[str]:
    """What the histories of the tests must reach."""
    steps = {
        (before, after) for before, followers in TRANSITIONS.items() for after, *_ in followers
    } - UNREACHABLE.keys()
    where = {f"fault {kind}, {place}" for kind, places in _WHERE.items() for place in places}
    simple = {f"fault {kind}" for kind in FAULTS if kind not in _WHERE and kind != "kill at any await"}
    return {
        "transition nothing to pending",
        *(f"transition {before} to {after}" for before, after in steps),
        *(f"entry {kind} {status}" for kind, statuses in _ENTRIES.items() for status in statuses),
        "entry CrashLimit",
        "entry IntegrityError",
        "entry Abandoned",
        "client: cancels that compensate",
        "entry attempted and undone",
        "entry sub completed",
        "call sub",
        *(f"decision {name}" for name in _DECISIONS),
        *(f"verdict {name}" for name in ("ok", "done", "lost", "message", "busy")),
        *(f"call {phase}" for phase in ("do", "undo", "when", "choose", "ask", "map")),
        *(f"client: {name}" for name in _CLIENT),
        *where,
        *simple,
        "fault kill at any await",
        *(f"pair {one} + {other}" for one, other in combinations(sorted((*RATES, *EVENTS)), 2)),
    }


def _depth(trace: Trace) -> int:
    """How many levels of children the deepest tree has."""
    deepest = 0
    for run in trace.snapshots.values():
        levels, above = 0, run.parent_run_id
        while above is not None and above in trace.snapshots:
            levels, above = levels + 1, trace.snapshots[above].parent_run_id
        deepest = max(deepest, levels)
    return deepest


def missing(reached: Mapping[str, int]) -> list[str]:
    """What should have been reached, and was not."""
    return sorted(name for name in wanted() if not reached.get(name))


def missing_of_wide(reached: Mapping[str, int]) -> list[str]:
    """What histories of the second generation should have reached besides, and did not."""
    return sorted(name for name in WIDE if not reached.get(name))


def table(reached: Mapping[str, int]) -> Iterable[str]:
    """The lines of a table: what was reached how often, by sort; of the pairs of faults the number and the rarest."""
    sorts: dict[str, list[tuple[str, int]]] = {}
    for name, count in sorted(reached.items()):
        sort, _, rest = name.partition(" ")
        sorts.setdefault(sort.rstrip(":"), []).append((rest, count))
    for sort, found in sorts.items():
        if sort == "pair":
            rarest = sorted(found, key=lambda one: one[1])[:3]
            yield f"pairs of faults in one history: {len(found)}; the rarest {_listed(rarest)}"
        else:
            yield f"{sort}: {_listed(found)}"


def _listed(found: Iterable[tuple[str, int]]) -> str:
    return " · ".join(f"{name} {count:,}" for name, count in found)
