"""Breaks the engine on purpose, one small mutation at a time, and sees the tests of the broken rule turn red.

The mutations stand in scripts/mutations/*.toml. Each is applied to a copy of the sources, never to the sources
themselves; its tests must pass in the copy before it, and each must fail with it. Exits non-zero if a mutation
survives, hangs, or no longer fits the sources. `python scripts/red.py WORD...` takes only those with a WORD in
their name or rule.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MUTATIONS = Path(__file__).with_name("mutations")
COPIED_TREES = ("src", "tests", "scripts", "examples")
COPIED_FILES = ("pyproject.toml",)
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*_cache", "*.db*")
INVARIANTS = (*(f"I{number}" for number in range(1, 11)), "I17")
SUBJECTS = ("user-code", "leaving", "files", "server", "clock", "load", "visible", "command-line", "links")
"""What a mutation breaks that is no invariant: how user code is contained, how things end, who may answer a run, …"""
RULES = (*INVARIANTS, *SUBJECTS)
LIMIT_SECONDS = 300
TESTS_FAILED = 1
"""Exit status of pytest when it ran what was asked and something failed."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One small change to one file, the rule it breaks, and the tests that must notice."""

    name: str
    rule: str
    why: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


class MisfitError(Exception):
    """A mutation that does not fit: its file, its text or its tests are not what it says."""


def load(words: list[str]) -> list[Mutation]:
    """All mutations whose name or rule has one of the words, or simply all; by rule and name."""
    wanted = {field.name for field in fields(Mutation)}
    found = []
    for path in sorted(MUTATIONS.glob("*.toml")):
        for row in tomllib.loads(path.read_text(encoding="utf-8"))["mutation"]:
            if set(row) != wanted or row["rule"] not in RULES or not row["tests"]:
                raise MisfitError(f"{path.name}: a mutation needs {sorted(wanted)}, a rule of {RULES}, and tests")
            found.append(Mutation(**{**row, "tests": tuple(row["tests"])}))
    twice = {each.name for each in found if sum(other.name == each.name for other in found) > 1}
    if twice:
        raise MisfitError(f"names given twice: {sorted(twice)}")
    lower = [word.lower() for word in words]
    chosen = [each for each in found if not lower or any(w == each.rule.lower() or w in each.name for w in lower)]
    if not chosen:
        raise MisfitError(f"no mutation is called {' or '.join(words) or 'anything'}; known: {[e.name for e in found]}")
    return sorted(chosen, key=lambda each: (RULES.index(each.rule), each.name))


def copy_to(folder: Path) -> Path:
    """A copy of the sources and tests in the folder, without what was compiled."""
    for name in COPIED_TREES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=LEFT_OUT)
    for name in COPIED_FILES:
        shutil.copy(ROOT / name, folder / name)
    return folder


def mutated(text: str, mutation: Mutation) -> str:
    """The text with the mutation in it; what it replaces must be there exactly once."""
    count = text.count(mutation.old)
    if count != 1:
        raise MisfitError(f"its old text is in {mutation.file} {count} times, not once")
    if mutation.old == mutation.new:
        raise MisfitError("it changes nothing")
    return text.replace(mutation.old, mutation.new)


def environment(folder: Path) -> dict[str, str]:
    """An environment in which `import stepwell`, here and in every child process, finds the copy."""
    return {**os.environ, "PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}


def check_import(folder: Path) -> None:
    """Make sure that what is tested in the folder is the copy, and not the sources installed beside it."""
    command = [sys.executable, "-c", "import stepwell; print(stepwell.__file__)"]
    told = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=True)
    if not Path(told.stdout.strip()).is_relative_to(folder):
        raise MisfitError(f"tests in the copy would import {told.stdout.strip()}")


def run_tests(folder: Path, tests: tuple[str, ...]) -> tuple[int, dict[str, bool], str]:
    """Run the tests in the folder: pytest's exit status, whether each case failed (not: erred), and its output."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    command += ["--override-ini=junit_family=xunit1", f"--junitxml={report}", *tests]
    ended = subprocess.run(
        command,
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    cases: dict[str, bool] = {}
    if report.exists():
        for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote this file a moment ago
            cases[f"{case.get('file')}::{case.get('name')}"] = case.find("failure") is not None
    return ended.returncode, cases, ended.stdout


def failed_cases(test: str, cases: dict[str, bool]) -> list[bool]:
    """Whether each case of one named test failed; a test without its parameters names all of its cases."""
    return [failed for case, failed in cases.items() if case == test or case.startswith(f"{test}[")]


def verdict_of(mutation: Mutation) -> str:
    """What became of one mutation, `red` if all is well; a test of several cases is red when one of them is."""
    with tempfile.TemporaryDirectory(prefix="stepwell-red-") as temporary:
        folder = copy_to(Path(temporary))
        target = folder / mutation.file
        try:
            target.write_text(mutated(target.read_text(encoding="utf-8"), mutation), encoding="utf-8")
        except (MisfitError, FileNotFoundError) as problem:
            return f"MISFIT: {problem}"
        try:
            status, cases, output = run_tests(folder, mutation.tests)
        except subprocess.TimeoutExpired:
            return f"HANGS: its tests did not end within {LIMIT_SECONDS} s"
    green = [test for test in mutation.tests if not any(failed_cases(test, cases))]
    if status == TESTS_FAILED and not green:
        return "red"
    print(output, file=sys.stderr)
    if status not in (0, TESTS_FAILED):
        return f"MISFIT: pytest ended with {status}"
    return f"SURVIVES: {', '.join(green)}"


def green_before(mutations: list[Mutation]) -> bool:
    """Whether all the tests pass without a mutation; what they say if not is printed."""
    tests = tuple(sorted({test for mutation in mutations for test in mutation.tests}))
    with tempfile.TemporaryDirectory(prefix="stepwell-red-") as temporary:
        folder = copy_to(Path(temporary))
        check_import(folder)
        status, cases, output = run_tests(folder, tests)
    absent = [test for test in tests if not failed_cases(test, cases)]
    if status != 0 or absent:
        print(output, file=sys.stderr)
        print(f"not green before any mutation: exit status {status}, not run: {absent}", file=sys.stderr)
        return False
    print(f"{len(tests)} tests pass without a mutation", flush=True)
    return True


def main() -> int:
    """Read the arguments, break the engine, print the table; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="mutations tried at once")
    given = parser.parse_args()
    try:
        mutations = load(given.words)
        if not green_before(mutations):
            return 1
    except MisfitError as problem:
        print(problem, file=sys.stderr)
        return 1
    width = max(len(each.name) for each in mutations)
    verdicts = []
    with ThreadPoolExecutor(max_workers=given.at_once) as pool:
        for mutation, verdict in zip(mutations, pool.map(verdict_of, mutations), strict=True):
            verdicts.append(verdict)
            print(f"{mutation.rule:13}{mutation.name:{width}}  {verdict}", flush=True)
    print(f"{verdicts.count('red')} of {len(verdicts)} mutations are seen by their tests")
    return 0 if set(verdicts) == {"red"} else 1


if __name__ == "__main__":
    sys.exit(main())
