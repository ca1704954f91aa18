"""The named queries of `queries.sql`, and the way one of them is run for many rows at once."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from stepwell.store.migrate import queries_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

Q = queries_of("stepwell.store.sqlite")
_REPEATED = re.compile(r"\{(\([^{}]*\))\}")
_CHUNKS = (256, 64, 16, 4, 1)
"""How many rows one prepared statement takes. A single statement is stepped once, so the interpreter's lock is taken
once: with another thread computing, a statement for 256 rows ran 17,000 rows/s, `executemany` 8,000."""


@cache
def _repeated(name: str, count: int) -> str:
    return _REPEATED.sub(lambda match: ", ".join([match[1]] * count), Q[name])


def bulk(
    connection: sqlite3.Connection,
    name: str,
    rows: Sequence[tuple[object, ...]],
    *,
    before: tuple[object, ...] = (),
    after: tuple[object, ...] = (),
) -> int:
    """Runs the query for all rows, in as few statements as there are; how many rows it changed."""
    changed = 0
    at = 0
    while at < len(rows):
        count = next(size for size in _CHUNKS if size <= len(rows) - at)
        parameters = list(before)
        for row in rows[at : at + count]:
            parameters += row
        parameters += after
        changed += connection.execute(_repeated(name, count), parameters).rowcount
        at += count
    return changed
