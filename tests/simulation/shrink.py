"""Makes a failing history smaller: takes elements out of its plan as long as it fails in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.plan import plan_of
from tests.simulation.simulated_history import play

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

MOST_PLAYS = 2000


def raised(error: Exception) -> str:
    """A history that cannot be played to its end, as a violation."""
    return f"raised: {type(error).__name__}: {error}"


def failings(seed: int, without: Iterable[str] = ()) -> list[str]:
    """What is wrong in this history."""
    try:
        return play(seed, without).violations
    except Exception as error:  # noqa: BLE001  whatever it is, it is what is wrong
        return [raised(error)]


def shrunk(seed: int, without: Iterable[str] = (), fails: Callable[[Sequence[str]], bool] | None = None) -> list[str]:
    """What can be taken out of the history so that it still fails with the same invariant, or as `fails` says."""
    if fails is None:
        code = _code(failings(seed, without))

        def fails(out: Sequence[str]) -> bool:
            return code & _code(failings(seed, out)) != set()

    out, plays = sorted(without), 0
    while plays < MOST_PLAYS:
        before = len(out)
        for candidates in (plan_of(seed, out).elements, _strikes(seed, out)):
            size = max(1, len(candidates) // 2)
            while size and plays < MOST_PLAYS:
                at = 0
                while at < len(candidates) and plays < MOST_PLAYS:
                    some = candidates[at : at + size]
                    plays += 1
                    if fails([*out, *some]):
                        out += some
                        del candidates[at : at + size]
                    else:
                        at += size
                size //= 2
        if len(out) == before:
            break
    return sorted(one for one in out if one.partition(":")[0] not in out or ":" not in one)


def _strikes(seed: int, out: Sequence[str]) -> list[str]:
    """Each fault that was drawn, by its number; the last ones first."""
    try:
        drawn = play(seed, out).drawn
    except Exception:  # noqa: BLE001  it fails by not coming to its end: nothing tells what was drawn
        return []
    return [
        f"{kind}:{number}"
        for kind, count in sorted(drawn.items())
        for number in reversed(range(count))
        if kind not in out and f"{kind}:{number}" not in out
    ]


def _code(found: Iterable[str]) -> set[str]:
    return {text.partition(":")[0] for text in found}
