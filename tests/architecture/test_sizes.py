"""Tests that no file and no function is longer than a reader can hold."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from tests.architecture.sources import other_files, package_files, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE_LINES = 400
OTHER_FILE_LINES = 500
FUNCTION_LINES = 70

EXCEPTIONS: dict[str, str] = {
    "src/stepwell/app.py": "half of it are the docstrings of the public calls, which say parameters, units and errors",
}
"""What may be longer, as `path` or `path:function`, each with the reason."""


def long_file(name: str, text: str, most: int) -> Iterator[str]:
    """`name`, if the file `text` has more than `most` lines."""
    if len(text.splitlines()) > most:
        yield name


def long_functions(name: str, text: str) -> Iterator[str]:
    """Each function of the module `text` that is too long, decorators left out, as `name:function`."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= (
            FUNCTION_LINES
        ):
            yield f"{name}:{node.name}"


def too_long() -> set[str]:
    """Every file and function of the project that is too long."""
    found: set[str] = set()
    for path in package_files(".py", ".sql"):
        text = path.read_text(encoding="utf-8")
        found.update(long_file(shown(path), text, FILE_LINES))
        if path.suffix == ".py":
            found.update(long_functions(shown(path), text))
    for path in other_files(".py"):
        found.update(long_file(shown(path), path.read_text(encoding="utf-8"), OTHER_FILE_LINES))
    return found


def test_files_and_functions_are_short_but_for_the_exceptions() -> None:
    assert too_long() - EXCEPTIONS.keys() == set()


def test_every_exception_is_still_needed_and_has_a_reason() -> None:
    assert EXCEPTIONS.keys() - too_long() == set()
    assert all(EXCEPTIONS.values())


def test_a_file_or_function_of_one_line_too_many_is_found() -> None:
    function = "async def longest():\n" + "    1\n" * (FUNCTION_LINES - 1)

    assert list(long_file("a.py", "1\n" * FILE_LINES, FILE_LINES)) == []
    assert list(long_file("a.py", "1\n" * (FILE_LINES + 1), FILE_LINES)) == ["a.py"]
    assert list(long_functions("a.py", function)) == []
    assert list(long_functions("a.py", function + "    1\n")) == ["a.py:longest"]
