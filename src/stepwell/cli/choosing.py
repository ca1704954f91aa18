"""Which runs `list` shows: those older than a length of time, and those that nothing moves unless somebody acts."""

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
MOST_LOOKED_AT = 10_000


def first_id_after(instant: datetime) -> str:
    """What sorts before every run that was started at the instant or later: ids begin with their millisecond."""
    digits = f"{max(int(instant.timestamp() * 1000), 0):012x}"
    return f"{digits[:8]}-{digits[8:]}-7000-8000-000000000000"


async def stuck_runs(
    app: Durable, limit: int, filters: Mapping[str, Any]
) -> tuple[list[RunSnapshot], dict[str, Explanation]]:
    """The newest runs that are stuck, among the newest so many that pass the filters, and why each of them is."""
    found: list[RunSnapshot] = []
    why: dict[str, Explanation] = {}
    before, looked_at = filters.get("before"), 0
    while len(found) < limit and looked_at < MOST_LOOKED_AT:
        page = await app.list(**{**filters, "before": before}, limit=PAGE)
        if not page:
            break
        looked_at += len(page)
        before = page[-1].run_id
        told = await app.explain_many([run.run_id for run in page if run.status not in ENDED])
        why |= {run_id: one for run_id, one in told.items() if one.reason in STUCK}
        found += [run for run in page if run.run_id in why]
    return found[:limit], why
