"""The named queries of `queries.sql`, and the way one of them is run for many rows at once."""

from __future__ import annotations

import re
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.store.migrate import queries_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_ENTRY = """j.ref, j.seq, coalesce((SELECT name FROM stepwell_names WHERE number = j.node), ''), j.item, j.phase, j.n,
    coalesce(j.kind, 'step'), coalesce(j.attempt, 1), coalesce(j.status, 'completed'), {payload}, j.error, j.retry_at,
    j.started_at, j.finished_at, coalesce((SELECT name FROM stepwell_names WHERE number = j.worker), ''), j.name"""
"""A journal row `j` in words, in the order of `JournalRow`."""
_FRAGMENTS = {
    "{journal.entry}": _ENTRY.replace("{payload}", "j.value, j.detail"),
    "{journal.told}": _ENTRY.replace("{payload}", "NULL, NULL"),
}
Q = queries_of(Path(__file__).parent, _FRAGMENTS)
_REPEATED = re.compile(r"\{(\([^{}]*\))\}")
_SIZES = (1, 8, 32, 128, 256)
"""How many rows a prepared statement takes; fewer are filled up with rows of NULLs, which the statement passes over.

A statement is stepped once, however many rows it has, and so takes the interpreter's lock once. That is what counts
while the event loop computes: each time the lock is taken from it may cost the switch interval, 5 ms.
"""


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
    for at in range(0, len(rows), _SIZES[-1]):
        some = rows[at : at + _SIZES[-1]]
        size = next(size for size in _SIZES if size >= len(some))
        parameters = [*before, *chain.from_iterable(some)]
        parameters += (None,) * ((size - len(some)) * len(some[0]))
        parameters += after
        changed += connection.execute(_repeated(name, size), parameters).rowcount
    return changed


def next_turn(connection: sqlite3.Connection) -> int:
    """The turn of what is made due at once by this transaction, as `due_at`."""
    turn: int = connection.execute(Q["next_turn"]).fetchone()[0]
    return turn


def as_json(value: object) -> str:
    """A list or an object as the parameter that a query reads by `json_each`."""
    return msgspec.json.encode(value).decode()


def from_json(text: str) -> Any:
    """What a query gave as one JSON text, so that it is stepped once."""
    return msgspec.json.decode(text)
