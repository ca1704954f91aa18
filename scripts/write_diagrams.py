"""Writes the diagrams in docs that are drawn from the code, so that they cannot disagree with it."""

from __future__ import annotations

from pathlib import Path

from stepwell.core import statuses

STATUSES = Path(__file__).resolve().parents[1] / "docs" / "statuses.md"


def statuses_page() -> str:
    """The whole text of docs/statuses.md, drawn from the table of transitions."""
    return "\n".join(
        [
            "<!-- Written by `make docs-diagram` from stepwell.core.statuses: change it there. -->",
            "",
            "# The statuses of a run",
            "",
            "Where a run can go from each status; what is not drawn here is refused by the code.",
            "",
            "```mermaid",
            statuses.diagram().strip("\n"),
            "```",
            "",
        ]
    )


if __name__ == "__main__":
    STATUSES.write_text(statuses_page(), encoding="utf-8")
    print(f"wrote {STATUSES.relative_to(STATUSES.parents[1])}")
