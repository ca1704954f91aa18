"""Tests that the site of the documentation builds without a broken link and loads nothing from elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.site import SITE, external_requests, place, rewritten, sources

ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = {".md": ".html", ".py": ".html", "": ".html", ".svg": ".svg"}


def test_the_site_is_built_with_every_page_and_a_search_index_and_loads_nothing_from_elsewhere() -> None:
    built = subprocess.run(
        [sys.executable, "-m", "scripts.site"], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )

    assert (built.returncode, built.stderr) == (0, "")
    missing = [
        source for source in sources() if not (SITE / place(source)).with_suffix(SUFFIXES[source.suffix]).exists()
    ]
    assert missing == []
    found = {
        entry["location"].split("#")[0] for entry in json.loads((SITE / "search/search_index.json").read_text())["docs"]
    }
    assert {"guide.html", "reference.html", "examples/order.html"} <= found


@pytest.mark.parametrize(
    "loads",
    [
        '<script src="https://cdn.example.org/a.js"></script>',
        '<link rel="stylesheet" href="//fonts.example.org/css">',
        '<link rel="preconnect" href="https://fonts.example.org">',
        '<img src="http://badges.example.org/ci.svg">',
        '<p style="background: url(https://example.org/a.png)">',
        '<iframe src="https://video.example.org/1"></iframe>',
    ],
)
def test_a_page_that_loads_from_elsewhere_is_found(tmp_path: Path, loads: str) -> None:
    (tmp_path / "page.html").write_text(f"<html><body>{loads}</body></html>")

    assert len(external_requests(tmp_path)) == 1


def test_a_style_sheet_that_loads_from_elsewhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("@import url('https://fonts.example.org/css'); a { color: red }")

    assert external_requests(tmp_path) != []


def test_what_a_page_only_links_to_is_no_request(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text('<a href="https://example.org">there</a><img src="local.png">')

    assert external_requests(tmp_path) == []


def test_links_of_the_readme_lead_to_pages_of_the_site() -> None:
    text = rewritten(ROOT / "README.md")

    assert "](guide.md)" in text
    assert "](decisions/index.md)" in text
    assert "](examples/index.md)" in text
