"""Tables whose columns shrink to the terminal's width; the views fill them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from stepwell.cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP = "  "

STATUS_STYLES = {
    "pending": "dim",
    "running": "cyan",
    "suspended": "yellow",
    "compensating": "magenta",
    "completed": "green",
    "failed": "red",
    "canceled": "dim",
    "retrying": "yellow",
    "skipped": "dim",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title, and its minimum width when it shrinks (None: it does not shrink)."""

    title: str
    least: int | None = None
    right: bool = False


def status_text(status: str) -> Text:
    """A status in its colour."""
    return Text(printable(status), style=STATUS_STYLES.get(status, ""))


def table(columns: Sequence[Column], rows: Sequence[Sequence[str | Text]], width: int) -> list[Text]:
    """The lines of the table, title first, at most `width` wide if the columns can shrink that far."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    titles = [Text(column.title, style="bold") for column in columns]
    widths = _widths(columns, [titles, *cells], width)
    return [_line(columns, row, widths) for row in [titles, *cells]]


def fits(columns: Sequence[Column], rows: Sequence[Sequence[str | Text]], width: int) -> bool:
    """Whether the table fits without truncation."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    titles = [Text(column.title) for column in columns]
    natural = [max(row[at].cell_len for row in [titles, *cells]) for at in range(len(columns))]
    return sum(natural) + len(GAP) * (len(columns) - 1) <= width


def _cell(cell: str | Text) -> Text:
    return cell.copy() if isinstance(cell, Text) else Text(cell)


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int) -> list[int]:
    widths = [max(row[at].cell_len for row in rows) for at in range(len(columns))]
    excess = sum(widths) + len(GAP) * (len(columns) - 1) - width
    while excess > 0:
        spare = [widths[at] - least if (least := column.least) is not None else 0 for at, column in enumerate(columns)]
        widest = max((at for at in range(len(columns)) if spare[at] > 0), key=lambda at: widths[at], default=None)
        if widest is None:
            break
        others = [widths[at] for at in range(len(columns)) if spare[at] > 0 and at != widest]
        cut = max(min(excess, spare[widest], widths[widest] - max(others, default=0)), 1)
        widths[widest] -= cut
        excess -= cut
    return widths


def _line(columns: Sequence[Column], row: Sequence[Text], widths: Sequence[int]) -> Text:
    line = Text()
    for at, (column, cell, width) in enumerate(zip(columns, row, widths, strict=True)):
        cell.truncate(width, overflow="ellipsis")
        missing = " " * max(width - cell.cell_len, 0)
        line.append(GAP if at else "")
        line.append(missing if column.right else "")
        line.append_text(cell)
        line.append("" if column.right else missing)
    line.rstrip()
    return line
