"""Tests that the pages keep their word: programs print what stands below them, what is named or linked is there."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import stepwell

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
CITING = [page for page in PAGES if page.name != "CONTRIBUTING.md"]
"""CONTRIBUTING.md shows how tests are named, with an invented one."""
FENCED = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\((?![a-z]+:)([^)#]*)(?:#([^)]*))?\)")
CITED = re.compile(r"`(test_\w+)`")


@dataclass(frozen=True, slots=True)
class Program:
    """A python block of a page, and the text block right below it: what it prints (None where the page shows none)."""

    page: str
    line: int
    code: str
    prints: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def programs(path: Path) -> Iterator[Program]:
    """The page's python blocks, in order."""
    text = path.read_text(encoding="utf-8")
    blocks = list(FENCED.finditer(text))
    for at, block in enumerate(blocks):
        if block["info"].startswith("python"):
            below = blocks[at + 1] if at + 1 < len(blocks) else None
            near = below is not None and below["info"] == "text" and not text[block.end() : below.start()].strip()
            printed = below["text"] if near and below is not None else None
            line = text.count("\n", 0, block.start()) + 1
            assert block["info"] == "python", f"{path.name}:{line}: every python block is a whole program"
            yield Program(str(path.relative_to(ROOT)), line, block["text"], printed)


WITH_PROGRAMS = [ROOT / "README.md", *(page for page in sorted(ROOT.glob("docs/*.md")) if page.name != "tutorial.md")]
"""The tutorial's files belong together; `test_tutorial.py` follows it."""
PROGRAMS = [program for page in WITH_PROGRAMS for program in programs(page)]
NODES = ("step", "parallel", "route", "loop", "sleep", "wait_for_signal", "child_workflow")
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_a_program_runs_and_prints_what_stands_below_it(program: Program, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(program.code, encoding="utf-8")
    command = [sys.executable, "-W", "error", str(script)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    if program.prints is not None:
        assert ran.stdout == program.prints


@pytest.mark.parametrize("program", [one for one in PROGRAMS if one.page != "README.md"], ids=str)
def test_every_program_of_the_guide_shows_what_it_prints(program: Program) -> None:
    assert program.prints


@pytest.mark.parametrize("node", NODES)
def test_the_guide_has_a_program_with_every_kind_of_node(node: str) -> None:
    assert any(re.search(rf"\.{node}\(", program.code) for program in PROGRAMS if program.page == "docs/guide.md")


def section(name: str) -> str:
    """The part of the reference that is about one public name."""
    found = re.search(rf"^### `{name}[`(].*?(?=^##|\Z)", REFERENCE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/reference.md has no section {name}"
    return found[0]


def members(thing: object) -> Iterator[str]:
    """What a user may name of a public thing: its parameters, and the fields, methods and properties of a class."""
    if isinstance(thing, type):
        if is_dataclass(thing):
            yield from (field.name for field in fields(thing) if not field.name.startswith("_"))
        inherited = {name for base in thing.__mro__[1:] for name in vars(base)}
        yield from (name for name in vars(thing) if not name.startswith("_") and name not in inherited)
    elif callable(thing):
        yield from inspect.signature(thing).parameters


@pytest.mark.parametrize("name", stepwell.__all__)
def test_every_public_name_has_a_section_in_the_reference_with_all_its_members(name: str) -> None:
    text = section(name)
    missing = [each for each in members(getattr(stepwell, name)) if not re.search(rf"\b{each}\b", text)]

    assert missing == []


@pytest.mark.parametrize(
    ("owner", "method"),
    [
        (owner, name)
        for owner in (stepwell.Durable, stepwell.Workflow)
        for name, method in vars(owner).items()
        if inspect.isfunction(method) and (not name.startswith("_") or (owner, name) == (stepwell.Durable, "__init__"))
    ],
    ids=lambda part: part if isinstance(part, str) else part.__name__,
)
def test_every_parameter_of_a_method_is_in_the_reference(owner: type, method: str) -> None:
    names = [name for name in inspect.signature(getattr(owner, method)).parameters if name not in {"self", "unknown"}]
    text = section(owner.__name__)
    missing = [name for name in names if not re.search(rf"\b{name}\b", text)]

    assert missing == []


@pytest.mark.parametrize("error", [name for name in stepwell.__all__ if name.endswith("Error")])
def test_the_code_of_every_error_is_in_its_section(error: str) -> None:
    assert f"`{getattr(stepwell, error).code}`" in section(error)


def test_the_reference_tells_of_no_name_that_is_not_there() -> None:
    told = set(re.findall(r"^### `(\w+)", REFERENCE, re.MULTILINE))

    assert told == set(stepwell.__all__)


@pytest.fixture(scope="module")
def names_of_tests() -> set[str]:
    """The name of every test there is."""
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("**/test_*.py"))
    return {name for source in sources for name in re.findall(r"def (test_\w+)\(", source)}


@pytest.mark.parametrize("page", CITING, ids=lambda path: path.name)
def test_every_test_that_a_page_cites_is_there(page: Path, names_of_tests: set[str]) -> None:
    assert set(CITED.findall(page.read_text(encoding="utf-8"))) - names_of_tests == set()


@pytest.mark.parametrize("number", range(1, 11))
def test_every_invariant_has_its_tests_cited_and_a_command_that_runs_some(
    number: int, names_of_tests: set[str]
) -> None:
    promised = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")

    assert f"`pytest -k test_i{number}_`" in promised
    assert any(name.startswith(f"test_i{number}_") for name in set(CITED.findall(promised)) & names_of_tests)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        aim = page.parent / target if target else page
        assert aim.exists(), f"{page.name}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", FENCED.sub("", aim.read_text(encoding="utf-8")), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in anchors, f"{page.name}: {target}#{anchor}"
