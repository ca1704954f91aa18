"""Tests that the mutations of `make red` fit the sources and name tests that are there."""

from __future__ import annotations

import ast

import pytest

from scripts import red
from tests.architecture.sources import ROOT

MUTATIONS = red.load([])
SAMPLE = red.Mutation("sample", "I1", "why", "src/a.py", old="a == b", new="True", tests=("tests/test_a.py::test_a",))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_fits_the_sources(mutation: red.Mutation) -> None:
    text = (ROOT / mutation.file).read_text(encoding="utf-8")

    assert red.mutated(text, mutation) != text
    if mutation.file.endswith(".py"):
        ast.parse(red.mutated(text, mutation))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_tests_that_a_mutation_names_are_there_and_cite_its_rule(mutation: red.Mutation) -> None:
    for test in mutation.tests:
        path, _, name = test.partition("::")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}

        assert name.partition("[")[0] in functions
        assert mutation.rule in red.SUBJECTS or name.startswith(f"test_{mutation.rule.lower()}_")


@pytest.mark.parametrize("text", ["a != b", "a == b or a == b"])
def test_a_mutation_whose_text_is_not_there_once_is_refused(text: str) -> None:
    assert red.mutated("if a == b: ...", SAMPLE) == "if True: ..."
    with pytest.raises(red.MisfitError, match=r"src/a\.py"):
        red.mutated(text, SAMPLE)


def test_a_mutation_is_found_by_its_rule_or_a_part_of_its_name_only() -> None:
    with pytest.raises(red.MisfitError, match="nonsense"):
        red.load(["nonsense"])
