"""Tests that names are words of the domain: one word per thing, in code, in SQL and in all that a user reads."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from tests.architecture.sources import PACKAGE, package_files, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EMPTY_WORDS = {"utils", "util", "common", "helpers", "helper", "base", "manager", "service", "misc"}
"""Names of modules that say nothing."""

FOREIGN_WORDS = {"task", "job", "activity", "execution", "instance"}
"""Words for what here is a workflow, run, step or attempt."""

THEIRS = {"src/stepwell/ext/django/": frozenset({"task"})}
"""Words of other frameworks, in the modules that speak to them: Django calls its work in the background so."""

NOT_OURS = re.compile(r"\basyncio\.\w+|\b\w*_?tasks?\(|\bcurrent_task\b|\bisinstance\b")
"""Python's own names, as they stand in annotations and in messages."""


def foreign_words(text: str) -> set[str]:
    """The foreign words in `text`, plurals too, whether apart, in snake_case or in CamelCase."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", NOT_OURS.sub(" ", text))
    singular = {re.sub(r"ies$", "y", word.lower()) for word in words}
    return {word.removesuffix("s") for word in singular} & FOREIGN_WORDS | singular & FOREIGN_WORDS


def public_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """What a module offers: its functions, classes and variables, their members and arguments, none with a `_`."""
    queue: list[ast.stmt] = list(tree.body)
    for statement in queue:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                names = [statement.name]
                if not statement.name.startswith("_") or statement.name == "__init__":
                    arguments = statement.args
                    names += [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
            case ast.ClassDef():
                names = [statement.name]
                if not statement.name.startswith("_"):
                    queue.extend(statement.body)
            case ast.Assign() | ast.AnnAssign():
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                names = [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
            case ast.If() | ast.Try():
                names = []
                queue.extend(child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.stmt))
            case _:
                names = []
        yield from ((statement.lineno, name) for name in names if not name.startswith("_"))


def texts(tree: ast.Module, *, with_docstrings: bool) -> Iterator[tuple[int, str]]:
    """The strings of a module: messages, SQL, logs; its docstrings only where they are shown to a user."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    apart = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and (with_docstrings or id(node) not in apart)
        ):
            yield node.lineno, node.value


def foreign_in_module(text: str, *, with_docstrings: bool, theirs: frozenset[str] = frozenset()) -> list[str]:
    """Each foreign word in what a module offers or says, as `line: word`, except those in `theirs`."""
    tree = ast.parse(text)
    said = [*public_names(tree), *texts(tree, with_docstrings=with_docstrings)]
    return [f"{line}: {word}" for line, part in said for word in sorted(foreign_words(part) - theirs)]


def nameless(text: str) -> str | None:
    """Why the docstring of the module `text` does not say in a sentence what lives there; None if it does."""
    docstring = ast.get_docstring(ast.parse(text))
    if not docstring:
        return "no docstring"
    sentence = docstring.split("\n\n", maxsplit=1)[0]
    return None if sentence.endswith(".") and len(sentence.split()) > 3 else f"no sentence: {sentence!r}"


@pytest.mark.parametrize("path", package_files(".py", ".sql"), ids=shown)
def test_a_module_is_named_for_what_it_holds(path: Path) -> None:
    named = set(path.relative_to(PACKAGE).with_suffix("").parts)

    assert named & EMPTY_WORDS == set()
    assert foreign_words(" ".join(named)) == set()


@pytest.mark.parametrize("path", package_files(".py"), ids=shown)
def test_a_module_says_in_a_sentence_what_lives_there(path: Path) -> None:
    assert nameless(path.read_text(encoding="utf-8")) is None


@pytest.mark.parametrize("path", package_files(".py"), ids=shown)
def test_a_module_uses_the_words_of_the_glossary(path: Path) -> None:
    shown_to_users = "cli" in path.relative_to(PACKAGE).parts
    theirs = frozenset[str]().union(*(words for folder, words in THEIRS.items() if shown(path).startswith(folder)))
    text = path.read_text(encoding="utf-8")

    assert foreign_in_module(text, with_docstrings=shown_to_users, theirs=theirs) == []


def test_sql_uses_the_words_of_the_glossary() -> None:
    foreign = {shown(path): foreign_words(path.read_text(encoding="utf-8")) for path in package_files(".sql")}

    assert {name: words for name, words in foreign.items() if words} == {}


@pytest.mark.parametrize(
    "module",
    [
        "class TaskRow: ...",
        "class Worker:\n    def run_job(self) -> None: ...",
        "class Worker:\n    def __init__(self, activities: int) -> None: ...",
        "executions = 1",
        "if True:\n    def start(*, instance_id: str) -> None: ...",
        "def f() -> None:\n    raise ValueError('no such task')",
        "QUERY = 'SELECT * FROM jobs'",
        "def f(n: int) -> str:\n    return f'{n} jobs'",
    ],
)
def test_a_foreign_word_is_found(module: str) -> None:
    assert foreign_in_module(module, with_docstrings=False) != []


@pytest.mark.parametrize(
    "module",
    [
        '"""Says why no task is kept."""',
        "import asyncio\ndef f() -> None:\n    task = asyncio.current_task()",
        "class Worker:\n    def __init__(self) -> None:\n        self._tasks: set[object] = set()",
        "x = cast('asyncio.Task[None]', 1)",
        "reinstate = jobless = 1",
    ],
)
def test_what_python_calls_so_and_what_is_private_passes(module: str) -> None:
    assert foreign_in_module(module, with_docstrings=False) == []


@pytest.mark.parametrize("module", ["x = 1", '"""Utilities."""', '"""Where runs are kept"""'])
def test_a_module_without_a_sentence_is_found(module: str) -> None:
    assert nameless(module) is not None
