"""The named queries of `queries/`, and the way one of them is run for many rows at once."""

from __future__ import annotations

import re
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.store.columns import JOURNAL_NAMES, NEW_RUN, UNUSUAL, entry, lease_of, shown
from stepwell.store.migrate import queries_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_FRAGMENTS = {
    "{journal.columns}": JOURNAL_NAMES,
    "{journal.unusual}": ", ".join(one.name for one in UNUSUAL if one.name != "worker"),
    "{journal.entry}": "j.ref, " + entry("stepwell_", with_payload=True),
    "{journal.told}": "j.ref, " + entry("stepwell_", with_payload=False),
    "{r.lease}": lease_of("r"),
    "{new_run.given}": "ref, id, lane, workflow, key, due_at, wake_at, parent_id, parent_node, now",
    "{new_run.columns}": NEW_RUN,
    "{new_run.values}": (
        "n.id, n.lane, n.workflow, n.key, 'pending', 0, 0, 0, 0, 0, n.due_at, n.wake_at, n.parent_id, n.parent_node,"
        " n.now, n.now"
    ),
    "{run.whole}": shown("", "i.value"),
    "{run.listed}": shown("", "NULL"),
}
Q = queries_of(Path(__file__).parent, _FRAGMENTS)
_ROWS = re.compile(r"\{(\w+) ?\(([^{}]*)\)\}")
"""Rows that a query is given: `{v(ref, token)}` stands for a table `v` of rows of two bound values each.

`given` has one row, the values that all rows share. A statement may not begin with them, by WITH: of those Python
does not tell how many rows it changed.
"""
_SIZES = (1, 8, 32, 128, 256)
"""How many rows a prepared statement takes; fewer are filled up with rows of NULLs, which the statement passes over.

A statement is stepped once, however many rows it has, and so takes the interpreter's lock once. That is what counts
while the event loop computes: each time the lock is taken from it may cost the switch interval, 5 ms.
"""


@cache
def _for(name: str, count: int) -> str:
    """The query for this number of rows."""

    def rows(found: re.Match[str]) -> str:
        names = [name.strip() for name in found[2].split(",")]
        one = f"({', '.join('?' * len(names))})"
        values = ", ".join([one] * (1 if found[1] == "given" else count))
        columns = ", ".join(f"column{at} AS {name}" for at, name in enumerate(names, 1))
        return f"(SELECT {columns} FROM (VALUES {values})) AS {found[1]}"  # noqa: S608  no user's text

    return _ROWS.sub(rows, Q[name])


def bulk(
    connection: sqlite3.Connection,
    name: str,
    rows: Sequence[Sequence[object]],
    *,
    given: tuple[object, ...] = (),
) -> int:
    """Runs the query for all rows, in as few statements as there are; how many rows it changed.

    `given` are the values that all rows share.
    """
    changed = 0
    for at in range(0, len(rows), _SIZES[-1]):
        some = rows[at : at + _SIZES[-1]]
        size = next(size for size in _SIZES if size >= len(some))
        parameters = [*given, *chain.from_iterable(some)]
        parameters += (None,) * ((size - len(some)) * len(some[0]))
        changed += connection.execute(_for(name, size), parameters).rowcount
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
