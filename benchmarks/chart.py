"""The chart in the README, drawn from a result: how much of the database's limit is reached, and the peers beside it.

Bars on a logarithmic scale, as SVG with nothing from outside; its colours follow the reader's light or dark mode.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from benchmarks.cases import CASES_BY_NAME, POSTGRES, SQLITE
from benchmarks.peers.installed import PEERS
from benchmarks.rounds import LIMIT, OURS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.results import Result

DRAWN = (
    ("drain", "Steps a second, 1,000 runs of 10 steps, one worker", "more is better"),
    ("lone-1", "Milliseconds of a run of one step, start to result", "less is better"),
    ("many", "Seconds for 1,000 runs, start to last result", "less is better"),
)
"""The cases in the chart, each by its first figure."""
WIDTH, LABEL, BAR, GAP, HEAD = 760, 190, 16, 5, 40
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.title { font-weight: 600; } .note { fill: #59636e; }
.ours { fill: #0969da; } .limit { fill: #afb8c1; } .peer { fill: #d8a657; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .note { fill: #9198a1; }
  .ours { fill: #4493f8; } .limit { fill: #4d5560; } .peer { fill: #9e6a03; }
}
"""


def svg(result: Result) -> str:
    """The chart as SVG."""
    parts, top = [], 0
    for name, title, better in DRAWN:
        bars = list(_bars(result, name))
        if bars:
            parts += _panel(title, better, bars, top)
            top += HEAD + len(bars) * (BAR + GAP) + GAP
    machine = result.machine
    notes = [
        f"Medians of interleaved rounds on one machine of {machine['cores']} cores, with fsync on; logarithmic scale.",
        f"Commit {result.commit}, {result.taken_at[:10]}.",
    ]
    if machine["load_before"] > machine["cores"]:
        notes[1] += f" The machine was busy: its load was {machine['load_before']}."
    for note in notes:
        parts.append(_text(0, top + 16, note, "note"))
        top += 18
    height = top + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="stepwell beside the limit of its database and its peers">\n'
        f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _bars(result: Result, name: str) -> Iterator[tuple[str, str, float]]:
    """A label, a class and the median of each contender that was measured; the limits first."""
    found, metric = result.cases.get(name), CASES_BY_NAME[name].metrics[0]
    if found is None:
        return
    wanted = [
        (LIMIT, SQLITE, "SQLite itself", "limit"),
        (OURS, SQLITE, "stepwell on SQLite", "ours"),
        (LIMIT, POSTGRES, "PostgreSQL itself", "limit"),
        (OURS, POSTGRES, "stepwell on PostgreSQL", "ours"),
        *((peer.name, POSTGRES, _label(peer.title, peer.name, result), "peer") for peer in PEERS),
    ]
    for contender, store, label, kind in wanted:
        values = found.values(contender, store, metric.key)
        if values:
            yield label, kind, statistics.median(values)


def _label(title: str, name: str, result: Result) -> str:
    words = result.peers.get(name, "").partition(",")[0].split()
    return f"{title} {words[-1]}" if words else title


def _panel(title: str, better: str, bars: list[tuple[str, str, float]], top: int) -> list[str]:
    largest, smallest = (pick(value for _, _, value in bars) for pick in (max, min))
    decades = max(math.log10(largest / smallest), 0.1) + 0.5
    room = WIDTH - LABEL - 90
    parts = [_text(0, top + 20, title, "title"), _text(0, top + 34, better, "note")]
    for number, (label, kind, value) in enumerate(bars):
        y = top + HEAD + number * (BAR + GAP)
        width = room * (math.log10(value / smallest) + 0.5) / decades
        parts += [
            _text(0, y + 13, label),
            f'<rect class="{kind}" x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>',
            _text(LABEL + width + 6, y + 13, _number(value)),
        ]
    return parts


def _text(x: float, y: float, words: str, kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}"{f" class={chr(34)}{kind}{chr(34)}" * bool(kind)}>{escape(words)}</text>'


def _number(value: float) -> str:
    """Three digits that count."""
    digits = max(0, 2 - math.floor(math.log10(value)))
    return f"{round(value, digits):,.{digits}f}" if value < 100 else f"{float(f'{value:.3g}'):,.0f}"
