"""What each user function does in a run, told from the run's number alone: so any process, and the model, know it."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias

End: TypeAlias = Literal["returns", "aborts", "exhausts", "unstorable"]

FAILS_AT_ALL = 0.15
FAILS_FOR_GOOD = 0.02
UNDO_EXHAUSTS = 0.05
SKIPS = 0.3
NO_BRANCH = 0.02
GIVES_UP = 0.1
_TOLD_APART = {"token", "pad"}
_REMEMBERED = 100_000


class Act(NamedTuple):
    """So many failed attempts, then this end; `how` tells in which way the failed attempts fail.

    Among them: it cancels its own task, and waits after that (`cancel`) or returns (`leave`).
    """

    fails: int
    how: str
    end: End


@lru_cache(_REMEMBERED)
def act_of(number: int, design: str, place: str, *, stalls: bool = False, undo: bool = False) -> Act:
    """What the handler or compensator at this place does."""
    chance = random.Random(f"{number} {design} {place} {undo}")
    ways = ["retry", "error", "spoil", "cancel", "leave"] + (["stall"] * 3 if stalls else [])
    fails = chance.randint(1, 2) if chance.random() < FAILS_AT_ALL else 0
    how = chance.choice(ways)
    end: End = "returns"
    if undo:
        end = "exhausts" if chance.random() < UNDO_EXHAUSTS else "returns"
    elif chance.random() < FAILS_FOR_GOOD:
        end = chance.choice(("aborts", "exhausts", "unstorable"))
    return Act(fails, how, end)


@lru_cache(_REMEMBERED)
def asked_in_vain(number: int, design: str, place: str) -> int:
    """How many times (0 or 1) a condition, resolver, mapper or sleep's function raises before it answers."""
    return int(random.Random(f"{number} {design} {place} asked").random() < FAILS_AT_ALL)


@lru_cache(_REMEMBERED)
def holds(number: int, design: str, node: str) -> bool:
    """A condition's answer."""
    return random.Random(f"{number} {design} {node} holds").random() >= SKIPS


@lru_cache(_REMEMBERED)
def branch_of(number: int, design: str, node: str, branches: tuple[str, ...]) -> str:
    """A resolver's answer, which may name no branch at all."""
    chance = random.Random(f"{number} {design} {node} branch")
    return "nowhere" if chance.random() < NO_BRANCH else chance.choice(branches)


@lru_cache(_REMEMBERED)
def last_turn(number: int, design: str, node: str, turns: int) -> int:
    """At which iteration a loop's condition holds; it may be beyond the last."""
    return random.Random(f"{number} {design} {node} turns").randint(1, turns + 1)


def gives_up(number: int, design: str, place: str) -> bool:
    """Whether a step that may give up does so at once."""
    return random.Random(f"{number} {design} {place} gives up").random() < GIVES_UP


def child_number(number: int, node: str) -> int:
    """The number of a child whose node maps its input."""
    return random.Random(f"{number} {node} child").randrange(1_000_000)


def place_of(name: str, iteration: int | None = None, entries: int = 0) -> str:
    """How a place is named: a node or entry, an iteration, a re-entry."""
    return f"{name}#{iteration or ''}~{entries or ''}"


def without_tokens(value: Any) -> Any:
    """The value without the tokens that tell one call from another, and without what pads it, at any depth."""
    if isinstance(value, dict):
        return {name: without_tokens(part) for name, part in value.items() if name not in _TOLD_APART}
    return [without_tokens(part) for part in value] if isinstance(value, list) else value
