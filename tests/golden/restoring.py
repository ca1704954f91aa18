"""A copy of a golden journal in a store of its own, for today's code to open."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import asyncpg

from stepwell.store.postgres.sql import in_schema
from tests.postgres import dsn, fresh_url

if TYPE_CHECKING:
    from pathlib import Path


async def restored(kept: Path, folder: Path) -> str:
    """The URL of a copy: of a file in that folder, of a dump in a schema of its own."""
    if kept.suffix == ".db":
        shutil.copy(kept, folder / kept.name)
        return f"sqlite:///{folder / kept.name}"
    url = fresh_url()
    schema = url.rpartition("=")[2]
    dump = _text(kept).replace("CREATE SCHEMA stepwell;", f'CREATE SCHEMA "{schema}";')
    connection = await asyncpg.connect(dsn())
    try:
        await connection.execute(in_schema(dump, schema))
    finally:
        await connection.close()
    return url


def _text(kept: Path) -> str:
    return kept.read_text(encoding="utf-8")
