"""The histories that found a defect once, as `regressions.toml` has them: a seed, and what was taken out of it."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.plan import plan_of
from tests.simulation.wide import NARROW

if TYPE_CHECKING:
    from collections.abc import Iterable

FILE = Path(__file__).with_name("regressions.toml")


class Regression(NamedTuple):
    """A history that once went wrong; `plan` tells whether its seed still means what it did."""

    seed: int
    without: tuple[str, ...]
    plan: str
    why: str


def regressions() -> list[Regression]:
    """All of them."""
    rows = tomllib.loads(FILE.read_text(encoding="utf-8"))["history"]
    return [Regression(row["seed"], tuple(row["without"]), row["plan"], row["why"]) for row in rows]


def plan_digest(seed: int, without: Iterable[str] = ()) -> str:
    """A short name for what the generator makes of this seed."""
    plan = plan_of(seed, without)
    names = [name for name in plan.__dataclass_fields__ if name != "without"]
    parts = [repr(getattr(plan, name)) for name in names if name != "wide" or plan.wide != NARROW]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=6).hexdigest()


def line_of(seed: int, without: Iterable[str], why: str) -> str:
    """The lines to be added to `regressions.toml`."""
    out = ", ".join(f'"{one}"' for one in without)
    told = why.replace("\\", "").replace('"', "'")
    digest = plan_digest(seed, without)
    return f'[[history]]\nseed = {seed}\nplan = "{digest}"\nwhy = "{told}"\nwithout = [{out}]\n'


def command(seed: int, without: Iterable[str] = ()) -> str:
    """What plays a history again."""
    out = ";".join(without)
    return f"python -m tests.simulation {seed}" + (f' --without "{out}"' if out else "")
