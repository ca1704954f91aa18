"""Tests that code and pages use plain words: no old names of parts, no archaic or personifying English."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.architecture.sources import ROOT
from tests.architecture.words import LIST, sources, unwanted

if TYPE_CHECKING:
    from pathlib import Path

LISTED = frozenset(LIST.read_text(encoding="utf-8").split())


def name_of(path: Path) -> str:
    """The path as the list has it."""
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_a_file_uses_plain_words_unless_it_is_listed(path: Path) -> None:
    found = unwanted(path)

    if name_of(path) in LISTED:
        assert found, f"{name_of(path)} uses plain words now: remove it from {name_of(LIST)}"
    else:
        assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "class Tenure: ...",
        "def face_of(node: int) -> None: ...",
        "def send(letter: int) -> None: ...",
        "def told() -> None: ...",
        "class A:\n    def f(self) -> None:\n        self.mail = 1",
        "def f() -> None:\n    raise ValueError('the store is away')",
        "text = 'there are so '\nmore = ('there are so ' f'many of them')\n",
        "# whoever comes first\n",
        '"""What nobody reads."""\n',
    ],
)
def test_an_unwanted_word_is_found(tmp_path: Path, text: str) -> None:
    path = tmp_path / "module.py"
    path.write_text(text, encoding="utf-8")

    assert unwanted(path) != []


@pytest.mark.parametrize("text", ["told = 1\n", "def turn_on() -> None: ...\n", "class Interface: ...\n", "# a heap\n"])
def test_other_words_pass(tmp_path: Path, text: str) -> None:
    path = tmp_path / "module.py"
    path.write_text(text, encoding="utf-8")

    assert unwanted(path) == []


def test_a_page_is_read_as_prose(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("A worker\nthat somebody started.\n", encoding="utf-8")

    assert unwanted(path) == ["2: somebody"]
