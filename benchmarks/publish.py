"""Puts a result into the documentation: the chart, and the table between two marks of docs/benchmarks.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import table
from benchmarks.chart import svg
from benchmarks.child import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from benchmarks.results import Result

DOCS = ROOT / "docs"
BEGIN, END = "<!-- figures: written by `python -m benchmarks` -->", "<!-- end of figures -->"


def published(result: Result, folder: Path) -> Iterator[Path]:
    """Writes the chart, and the table into the page if the folder has one; the files."""
    chart = folder / "benchmarks.svg"
    chart.write_text(svg(result), encoding="utf-8")
    yield chart
    page = folder / "benchmarks.md"
    if page.exists():
        put(page, table.whole(result))
        yield page


def put(page: Path, lines: Iterable[str]) -> None:
    """Puts lines between the two marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    text = "\n".join(lines)
    page.write_text(f"{before}{BEGIN}\n\n```text\n{text}\n```\n\n{END}{after}", encoding="utf-8")
