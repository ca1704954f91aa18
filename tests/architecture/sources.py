"""Where the project's files are, read for the tests of its shape; the rules themselves stand in those tests."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "stepwell"
OTHER_TREES = ("tests", "benchmarks", "examples", "scripts")


def package_files(*suffixes: str) -> list[Path]:
    """The files of the package with one of `suffixes`, sorted."""
    return sorted(path for path in PACKAGE.rglob("*") if path.suffix in suffixes)


def other_files(*suffixes: str) -> list[Path]:
    """The files with one of `suffixes` of all that is beside the package, sorted."""
    return sorted(path for tree in OTHER_TREES for path in (ROOT / tree).rglob("*") if path.suffix in suffixes)


def shown(path: Path) -> str:
    """`path` as a reader of the project knows it."""
    return path.relative_to(ROOT).as_posix()
