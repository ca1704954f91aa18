"""Numbered SQL files as migrations: which there are, in order; each store applies them in its own transaction."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_QUERY = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


class Migration(NamedTuple):
    """One step of the schema: its number from 1, its file's name, and its statements."""

    number: int
    name: str
    sql: str

    @property
    def named(self) -> dict[str, object]:
        """What is recorded of it."""
        return {"number": self.number, "name": self.name}


def migrations_of(folder: Path) -> tuple[Migration, ...]:
    """The migrations in a store's `migrations` folder, by number."""
    found = []
    for file in (folder / "migrations").iterdir():
        match = _NAME.fullmatch(file.name)
        if match:
            found.append(Migration(int(match[1]), file.name.removesuffix(".sql"), file.read_text(encoding="utf-8")))
    return tuple(sorted(found))


def queries_of(folder: Path, fragments: Mapping[str, str]) -> dict[str, str]:
    """The named queries of a store's `queries` folder, with the fragments filled in; each begins with `-- name: x`."""
    found: dict[str, str] = {}
    for file in sorted((folder / "queries").glob("*.sql")):
        text = file.read_text(encoding="utf-8")
        for name, fragment in fragments.items():
            text = text.replace(name, fragment)
        parts = _QUERY.split(text)
        found |= {name: sql.strip() for name, sql in zip(parts[1::2], parts[2::2], strict=True)}
    return found
