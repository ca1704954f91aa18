"""The words that this project does not use, and where they stand in a file; the tests are in `test_words.py`."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from functools import cache
from typing import TYPE_CHECKING

from tests.architecture.sources import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TREES = ("src", "tests", "docs", "scripts", "benchmarks", "examples")
PAGES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile")
SUFFIXES = {".py", ".sql", ".md", ".toml"}
LIST = ROOT / "tests" / "architecture" / "files_to_reword.txt"
"""The files that still use such words, one per line; it only shrinks."""

PARTS = re.compile(
    r"acquitted|addressee|audience|buried|burial|bury|crew|face|fate|heart|judges?|letters?|persevere|persevering|"
    r"somebodys?|nobodys?|story|tally|tenure|toolbox|weather|whoever|yard|anew"
)
"""Parts of names, between underscores or capitals."""
NAMES = re.compile(r"alarm|bell|born|course|dismiss|family|fed|mail|play|post|ring|telling_rows|told|world")
"""Whole names of classes, functions, attributes and parameters."""
FUNCTIONS = re.compile(r"note|raised|turn")
"""Whole names of functions."""
PROSE = re.compile(
    r"\bwhoever\b|\bsomebody\b|(?<!`)\bnobody\b|\bso many\b|\bsuch a one\b|\bis away\b|\bare away\b|\banew\b|"
    r"\bhe\b|\bburied\b|\bburials?\b|\bbury\b",
    re.IGNORECASE,
)
"""Words and phrases in docstrings, comments, messages and pages."""
BETWEEN_PIECES = re.compile(r"""["']\s*f?["']""")
"""What separates the pieces of one string."""
WORD = re.compile(r"[A-Za-z_]\w*")
CAMEL = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")


def sources() -> list[Path]:
    """Every file that people read, except generated data and this module and its test."""
    found = [path for tree in TREES for path in (ROOT / tree).rglob("*") if path.suffix in SUFFIXES]
    found += [ROOT / page for page in PAGES]
    apart = {"words.py", "test_words.py"}
    return sorted(path for path in found if path.name not in apart and "golden" not in path.parts)


def unwanted(path: Path) -> list[str]:
    """Each unwanted word in a file, as `line: word`."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return [f"{line}: {word}" for line, word in _in_prose(text, 1)]
    names = set(WORD.findall(text))
    if not PROSE.search(BETWEEN_PIECES.sub("", text)) and not any(
        _is_unwanted(name) or FUNCTIONS.fullmatch(name.strip("_")) for name in names
    ):
        return []  # nothing in it that parsing would find: parsing every file takes half a minute
    tree = ast.parse(text)
    found = [*_in_names(tree), *_in_comments(text), *_in_strings(tree)]
    return [f"{line}: {word}" for line, word in sorted(found)]


def _in_prose(text: str, first: int) -> Iterator[tuple[int, str]]:
    for match in PROSE.finditer(text):
        yield first + text.count("\n", 0, match.start()), match[0]


def _in_comments(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield from _in_prose(token.string, token.start[0])


def _in_strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        # The user `nobody` of the operating system is a name.
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value != "nobody":
            yield from _in_prose(node.value, node.lineno)


def _in_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for line, name in _defined(tree):
        if _is_unwanted(name):
            yield line, name
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and FUNCTIONS.fullmatch(node.name.strip("_")):
            yield node.lineno, node.name


@cache
def _is_unwanted(name: str) -> bool:
    """Whether a name is one, or has a part, that this project does not use; the names of functions aside."""
    parts = [part.lower() for word in name.split("_") for part in CAMEL.findall(word)]
    return bool(NAMES.fullmatch(name.strip("_").lower())) or any(PARTS.fullmatch(part) for part in parts)


def _defined(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The names of classes, functions, parameters and attributes that a module defines."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield node.lineno, name
            case _:
                pass
