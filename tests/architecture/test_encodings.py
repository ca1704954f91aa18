"""Tests that no text is read or written in the encoding of the locale: ours is UTF-8 wherever it runs."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from tests.architecture.sources import ROOT, package_files, shown

if TYPE_CHECKING:
    from pathlib import Path

_OF_PATHS = {"read_text", "write_text"}
_OF_PROCESSES = {"text", "universal_newlines"}


def calls_without_an_encoding(source: str) -> list[str]:
    """The calls that open text, or run a program for its text, and name no encoding."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [ast.unparse(call) for call in calls if _is_text(call) and not _names(call) & {"encoding"}]


def _names(call: ast.Call) -> set[str]:
    return {keyword.arg for keyword in call.keywords if keyword.arg}


def _is_text(call: ast.Call) -> bool:
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if called in _OF_PATHS:
        return not any(isinstance(given, ast.Constant) and given.value == "RECORD" for given in call.args)
    if called == "open":
        modes = [given.value for given in call.args if isinstance(given, ast.Constant)]
        is_ours = isinstance(call.func, ast.Attribute) and not call.args  # the store's, or a path's without a mode
        of_the_system = isinstance(call.func, ast.Attribute) and ast.unparse(call.func) == "os.open"
        return not is_ours and not of_the_system and not any(isinstance(mode, str) and "b" in mode for mode in modes)
    return bool(_names(call) & _OF_PROCESSES)


@pytest.mark.parametrize("path", package_files(".py"), ids=shown)
def test_all_text_is_read_and_written_in_a_named_encoding(path: Path) -> None:
    assert calls_without_an_encoding(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source", ["p.read_text()", "p.write_text(x)", "open(p)", "p.open('w')", "subprocess.run(a, text=True)"]
)
def test_a_call_without_an_encoding_is_found(source: str) -> None:
    assert calls_without_an_encoding(source) == [source]


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.sql")), ids=lambda path: path.stem)
def test_sql_is_ascii_so_that_a_database_of_any_encoding_takes_it(path: Path) -> None:
    assert path.read_text(encoding="utf-8").isascii()
