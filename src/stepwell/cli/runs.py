"""Finds a run by its id or by a unique prefix of it."""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

from stepwell import RunNotFoundError
from stepwell.cli.loading import app_of_store, settled
from stepwell.cli.problems import CommandError
from stepwell.cli.settings import Settings
from stepwell.cli.text import common_length

if TYPE_CHECKING:
    from collections.abc import Sequence

    import click

    from stepwell import Durable

DIGITS = 32
MOST_COMPARED = 1_000
"""The most runs that are compared to compute how many digits are needed."""
MATCHES_SHOWN = 5
MIN_DIGITS = 6
"""A shorter prefix is treated as a mistake: it would match every run of several weeks."""

_PREFIX = re.compile(r"[0-9a-f-]+")
_GROUPS = (8, 4, 4, 4, 12)


async def find_run(app: Durable, given: str) -> str:
    """The full id of the run; raises RunNotFoundError, or CommandError if several runs match."""
    text = given.strip().lower()
    digits = text.replace("-", "")
    if len(digits) > DIGITS or len(digits) < MIN_DIGITS or not _PREFIX.fullmatch(text):
        return given
    if len(digits) == DIGITS:
        return _dashed(digits)
    prefix = _dashed(digits)
    # Ids sort in the order of the starts, so the newest runs with this prefix come right before its largest id.
    last = _dashed(digits.ljust(DIGITS, "f"))
    found = [run.run_id for run in await app.list(limit=2, before=last) if run.run_id.startswith(prefix)]
    if not found:
        raise RunNotFoundError(given)
    if len(found) > 1:
        page = await app.list(limit=MOST_COMPARED, before=last)
        raise _ambiguous(given, [run.run_id for run in page if run.run_id.startswith(prefix)])
    return found[0]


def _ambiguous(given: str, alike: Sequence[str]) -> CommandError:
    """The error for an ambiguous prefix: names the runs and the number of digits needed."""
    plain = sorted(run_id.replace("-", "") for run_id in alike)
    needed = 1 + max(common_length(one, other) for one, other in pairwise(plain))
    count = f"{len(alike)} runs" if len(alike) < MOST_COMPARED else f"At least {MOST_COMPARED:,} runs"
    more = f" and {len(alike) - MATCHES_SHOWN} more" if len(alike) > MATCHES_SHOWN else ""
    shown = ", ".join(alike[:MATCHES_SHOWN]) + more
    message = f"{count} start with {given}: {shown}. Give at least {needed} digits of the id, not counting dashes."
    return CommandError("ambiguous_run", message)


def complete_run(context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The newest runs whose ids start with `incomplete`, for shell completion; none if no store is given."""
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
