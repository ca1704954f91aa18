"""Writes docs/statuses.md and docs/statuses.svg from the table of transitions, so that they cannot disagree with it."""

from __future__ import annotations

from math import hypot
from pathlib import Path
from typing import NamedTuple

from stepwell.core import statuses

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "statuses.md"
PICTURE = DOCS / "statuses.svg"

PLACES: dict[str, tuple[float, float]] = {
    "pending": (100, 150),
    "running": (285, 150),
    "suspended": (490, 66),
    "compensating": (285, 300),
    "completed": (745, 66),
    "failed": (745, 215),
    "canceled": (745, 330),
}
"""The center of each status in the picture."""
HALF_WIDTH, HALF_HEIGHT = 62, 19
LABEL_AT = 0.38
"""Where the number of an arrow stands, as a share of its length."""

STYLE = """
  text { font: 14px ui-sans-serif, system-ui, sans-serif; text-anchor: middle; dominant-baseline: central; }
  .status { fill: #eef2ff; stroke: #4f5d95; stroke-width: 1.5; }
  .ended { fill: #f4f4f5; stroke: #71717a; stroke-width: 1.5; }
  .arrow { stroke: #52525b; stroke-width: 1.5; fill: none; marker-end: url(#head); }
  .group { fill: none; stroke: #a1a1aa; stroke-width: 1.2; stroke-dasharray: 5 4; }
  .number { fill: #ffffff; stroke: #a1a1aa; }
  .small { font-size: 12px; }
"""


class Change(NamedTuple):
    """A row of the page's table: a number, the status before and after, and why."""

    number: int
    before: str
    after: str
    why: str


def changes() -> list[Change]:
    """Every change of status except `cancel`, which each status that has not ended allows."""
    rows = [
        (before, one.after, one.why)
        for before, following in statuses.TRANSITIONS.items()
        for one in following
        if one.why != "cancel"
    ]
    return [Change(number, *row) for number, row in enumerate(rows, start=1)]


def statuses_page() -> str:
    """The whole text of docs/statuses.md."""
    return "\n".join(
        [
            "<!-- Written by `make docs-diagram` from stepwell.core.statuses: change it there. -->",
            "",
            "# The statuses of a run",
            "",
            "Every change of status that is allowed; the code refuses all others.",
            "",
            "![The statuses of a run, and the changes between them, which the table below lists](statuses.svg)",
            "",
            "| | from | to | when |",
            "|---|---|---|---|",
            f"| | | `{statuses.FIRST}` | the run is started |",
            *(f"| {one.number} | `{one.before}` | `{one.after}` | {one.why} |" for one in changes()),
            "| | each status that has not ended | `canceled` | cancel |",
            "",
        ]
    )


def picture() -> str:
    """The whole text of docs/statuses.svg. Raises KeyError for a status that has no place in the picture."""
    live = [PLACES[status] for status in statuses.LIVE]
    left, right = min(x for x, _ in live) - 80, max(x for x, _ in live) + 80
    top, bottom = min(y for _, y in live) - 40, max(y for _, y in live) + 40
    gone_x, gone_y = PLACES["canceled"]
    arrows = [_arrow(one) for one in changes()]
    return "\n".join(
        [
            "<!-- Written by `make docs-diagram` from stepwell.core.statuses. -->",
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 840 380" width="840" height="380" role="img">',
            "<title>The statuses of a run</title>",
            f"<style>{STYLE}</style>",
            (
                '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"'
                ' orient="auto"><path d="M0 0 8 4 0 8z" fill="#52525b"/></marker></defs>'
            ),
            '<rect width="840" height="380" fill="#ffffff"/>',
            f'<rect class="group" x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" rx="12"/>',
            f'<path class="arrow" d="M{right} {gone_y}H{gone_x - HALF_WIDTH - 2}"/>',
            f'<text class="small" x="{(right + gone_x - HALF_WIDTH) / 2}" y="{gone_y - 12}">cancel</text>',
            f'<path class="arrow" d="M4 {PLACES["pending"][1]}H{PLACES["pending"][0] - HALF_WIDTH - 2}"/>',
            *(line for line, _ in arrows),
            *(_box(status) for status in statuses.TRANSITIONS),
            *(number for _, number in arrows),
            "</svg>",
            "",
        ]
    )


def _box(status: str) -> str:
    x, y = PLACES[status]
    kind = "ended" if status in statuses.ENDED else "status"
    return (
        f'<rect class="{kind}" x="{x - HALF_WIDTH}" y="{y - HALF_HEIGHT}" width="{2 * HALF_WIDTH}"'
        f' height="{2 * HALF_HEIGHT}" rx="8"/><text x="{x}" y="{y}">{status}</text>'
    )


def _arrow(change: Change) -> tuple[str, str]:
    """The line of a change from edge to edge, beside the line of the opposite change, and its number."""
    (x1, y1), (x2, y2) = PLACES[change.before], PLACES[change.after]
    length = hypot(x2 - x1, y2 - y1)
    aside = 9 if any((one.after, one.before) == (change.before, change.after) for one in changes()) else 0
    dx, dy = (x2 - x1) / length, (y2 - y1) / length
    x1, x2, y1, y2 = x1 - dy * aside, x2 - dy * aside, y1 + dx * aside, y2 + dx * aside
    inside = min(HALF_WIDTH / abs(dx) if dx else length, HALF_HEIGHT / abs(dy) if dy else length)
    x1, y1, x2, y2 = x1 + dx * inside, y1 + dy * inside, x2 - dx * (inside + 2), y2 - dy * (inside + 2)
    x, y = x1 + (x2 - x1) * LABEL_AT, y1 + (y2 - y1) * LABEL_AT
    return (
        f'<path class="arrow" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>',
        (
            f'<circle class="number" cx="{x:.1f}" cy="{y:.1f}" r="9"/>'
            f'<text class="small" x="{x:.1f}" y="{y:.1f}">{change.number}</text>'
        ),
    )


if __name__ == "__main__":
    PAGE.write_text(statuses_page(), encoding="utf-8")
    PICTURE.write_text(picture(), encoding="utf-8")
    print("wrote docs/statuses.md and docs/statuses.svg")
