"""Tests that the kinds of nodes are known to their own rooms alone, and a run's state changes in one module."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from stepwell.core.kinds import KINDS
from stepwell.core.state import RunState
from tests.architecture.sources import package_files, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOMS = ("src/stepwell/core/kinds/", "src/stepwell/workflow/")
STATE = "src/stepwell/core/state.py"
CLASSES = frozenset(node_class.__name__ for node_class in KINDS)
WORDS_OF_KINDS = frozenset(getattr(node_class, "kind", "") for node_class in KINDS) - {"signal"}
"""A message is of the kind `signal`, too."""
FIELDS = frozenset(field.name for field in fields(RunState))
CHANGES = frozenset({"add", "append", "clear", "discard", "insert", "pop", "remove", "setdefault", "update"})


def names_in(node: ast.AST) -> set[str]:
    """The plain names and attributes in an expression."""
    found = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return found | {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}


def words_in(node: ast.AST) -> set[str]:
    """The texts that stand in an expression."""
    return {part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def kinds_known(text: str) -> Iterator[tuple[int, str]]:
    """Where the module tells kinds of nodes apart: it imports a class of node, or compares a kind with a word."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module == "stepwell.workflow.nodes":
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name in CLASSES)
        elif (isinstance(node, ast.MatchClass) and names_in(node.cls) & CLASSES) or (
            isinstance(node, ast.Call) and names_in(node.func) == {"isinstance"} and names_in(node) & CLASSES
        ):
            yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            is_of_kind = any(isinstance(side, ast.Attribute) and side.attr == "kind" for side in sides)
            if is_of_kind and words_in(node) & WORDS_OF_KINDS:
                yield node.lineno, ast.unparse(node)


def is_state(node: ast.AST) -> bool:
    """Whether the expression is a run's state, by its name."""
    return (isinstance(node, ast.Name) and node.id == "state") or (
        isinstance(node, ast.Attribute) and node.attr in {"state", "_state"}
    )


def is_field(node: ast.AST) -> bool:
    """Whether the expression is an attribute of a run's state."""
    return isinstance(node, ast.Attribute) and node.attr in FIELDS and is_state(node.value)


def changes_of_state(text: str) -> Iterator[tuple[int, str]]:
    """Where the module assigns an attribute of a run's state, or changes what is in one."""
    for node in ast.walk(ast.parse(text)):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        parts = [part for target in targets for part in ast.walk(target)]
        yield from ((part.lineno, ast.unparse(part)) for part in parts if isinstance(part, ast.expr) and is_field(part))
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in CHANGES
            and is_field(node.func.value)
        ):
            yield node.lineno, ast.unparse(node.func)


def test_kinds_of_nodes_are_told_apart_in_their_own_rooms_alone() -> None:
    found = [
        f"{shown(path)}:{line}: {what}"
        for path in package_files(".py")
        if not shown(path).startswith(ROOMS)
        for line, what in kinds_known(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_a_runs_state_is_changed_in_one_module() -> None:
    found = [
        f"{shown(path)}:{line}: {what}"
        for path in package_files(".py")
        if shown(path) != STATE
        for line, what in changes_of_state(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "from stepwell.workflow.nodes import Loop",
        "isinstance(node, (nodes.Step, Loop))",
        "match node:\n    case Parallel():\n        pass",
        "if node.kind == 'loop': pass",
        "if entry.kind in {'route', 'x'}: pass",
    ],
)
def test_what_tells_kinds_apart_is_seen(text: str) -> None:
    assert list(kinds_known(text))


@pytest.mark.parametrize(
    "text", ["state.seq = 1", "self.state.seq += 1", "a, state.position = b", "del state.fan", "state.undoable.pop()"]
)
def test_a_change_of_state_is_seen(text: str) -> None:
    assert list(changes_of_state(text))


def test_rows_of_the_journal_are_made_in_one_module() -> None:
    """And read by the readers of the stores: a new column has one place where it is given its value."""
    made = re.compile(r"\bJournalRow\(\s*[^)*\s]")
    found = [shown(path) for path in package_files(".py") if made.search(path.read_text(encoding="utf-8"))]
    assert found == ["src/stepwell/core/journal.py", "src/stepwell/store/postgres/reader.py"]
