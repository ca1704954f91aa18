"""Finding the run a person means: by its id, or by a beginning of it that no other run has."""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

from stepwell import RunNotFoundError
from stepwell.cli.loading import app_of_store, settled
from stepwell.cli.problems import CommandError
from stepwell.cli.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    import click

    from stepwell import Durable

DIGITS = 32
MOST_ALIKE = 1_000
"""Runs that are compared to tell how much of an id is needed."""
SHOWN_ALIKE = 5
FEWEST_DIGITS = 6
"""Beginnings shorter than this are spelling mistakes: every run of some weeks would be meant."""

_BEGINNING = re.compile(r"[0-9a-f-]+")
_GROUPS = (8, 4, 4, 4, 12)


async def find_run(app: Durable, given: str) -> str:
    """The full id of the run meant; raises RunNotFoundError, or CommandError when several begin so."""
    text = given.strip().lower()
    digits = text.replace("-", "")
    if len(digits) > DIGITS or len(digits) < FEWEST_DIGITS or not _BEGINNING.fullmatch(text):
        return given
    if len(digits) == DIGITS:
        return _dashed(digits)
    beginning = _dashed(digits)
    # Ids are ordered as their runs were started, so the newest ones that begin so are the first before the last such.
    last = _dashed(digits.ljust(DIGITS, "f"))
    found = [run.run_id for run in await app.list(limit=2, before=last) if run.run_id.startswith(beginning)]
    if not found:
        raise RunNotFoundError(given)
    if len(found) > 1:
        page = await app.list(limit=MOST_ALIKE, before=last)
        raise _ambiguous(given, [run.run_id for run in page if run.run_id.startswith(beginning)])
    return found[0]


def _ambiguous(given: str, alike: Sequence[str]) -> CommandError:
    """Which runs begin so, and how many digits tell each of them from the others."""
    plain = sorted(run_id.replace("-", "") for run_id in alike)
    needed = 1 + max(_alike(one, other) for one, other in pairwise(plain))
    count = f"{len(alike)} runs" if len(alike) < MOST_ALIKE else f"At least {MOST_ALIKE:,} runs"
    more = f" and {len(alike) - SHOWN_ALIKE} more" if len(alike) > SHOWN_ALIKE else ""
    shown = ", ".join(alike[:SHOWN_ALIKE]) + more
    message = f"{count} begin with {given}: {shown}. Write at least {needed} digits of the id; dashes do not count."
    return CommandError("ambiguous_run", message)


def _alike(one: str, other: str) -> int:
    """How many digits the two have alike from their beginnings."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def complete_run(context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The newest runs that begin with what was typed, for the shell's completion; none where no store is known."""
    settings = context.find_object(Settings) or Settings()

    async def newest() -> list[CompletionItem]:
        app = await settled(app_of_store(settings), settings)
        async with app.existing(read_only=True) as existing:
            return [
                CompletionItem(run.run_id, help=f"{run.workflow_name}, {run.status}")
                for run in await existing.list(limit=50)
                if run.run_id.startswith(incomplete)
            ]

    try:
        return asyncio.run(newest())
    except Exception:  # noqa: BLE001  a completion must never raise into the shell
        return []


def _dashed(digits: str) -> str:
    groups, at = [], 0
    for size in _GROUPS:
        groups.append(digits[at : at + size])
        at += size
    return "-".join(group for group in groups if group)
