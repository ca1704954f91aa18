"""A run as the tests of the command line's pages show it, and the instant of the look; no test lives here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from stepwell import RunSnapshot, RunStatus

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def shown_run(**changes: Any) -> RunSnapshot:
    """A run of five minutes ago, at its first node of seven, but for the changes."""
    facts: dict[str, Any] = {
        "run_id": "0193a5c2-7b1e-7c4d-8e5f-0123456789ab",
        "key": None,
        "workflow_name": "order",
        "status": RunStatus.RUNNING,
        "current_step": 0,
        "current_node": "reserve",
        "total_steps": 7,
        "awaiting_signal": None,
        "wake_at": None,
        "input": None,
        "results": {},
        "error": None,
        "parent_run_id": None,
        "children": (),
        "compensated": (),
        "created_at": NOW - timedelta(minutes=5),
        "updated_at": NOW,
        "finished_at": None,
    }
    return RunSnapshot(**{**facts, **changes})
