"""Selects the runs that `list` shows: those older than a given age, and those that are stuck."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell import RunStatus
from stepwell.reading.explanations import STUCK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from stepwell import Durable, Explanation, RunSnapshot

ENDED = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELED)
PAGE = 200
MOST_EXAMINED = 10_000


def first_id_after(instant: datetime) -> str:
    """An id that sorts before every run started at `instant` or later: ids start with their millisecond."""
    digits = f"{max(int(instant.timestamp() * 1000), 0):012x}"
    return f"{digits[:8]}-{digits[8:]}-7000-8000-000000000000"


async def stuck_runs(
    app: Durable, limit: int, filters: Mapping[str, Any]
) -> tuple[list[RunSnapshot], dict[str, Explanation]]:
    """The newest stuck runs among the newest 10,000 that match the filters, and the explanation of each."""
    found: list[RunSnapshot] = []
    why: dict[str, Explanation] = {}
    before, examined = filters.get("before"), 0
    while len(found) < limit and examined < MOST_EXAMINED:
        page = await app.list(**{**filters, "before": before}, limit=PAGE)
        if not page:
            break
        examined += len(page)
        before = page[-1].run_id
        explained = await app.explain_many([run.run_id for run in page if run.status not in ENDED])
        why |= {run_id: one for run_id, one in explained.items() if one.reason in STUCK}
        found += [run for run in page if run.run_id in why]
    return found[:limit], why
