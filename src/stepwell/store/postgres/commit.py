"""The commit of many advances: the arrays of its two statements, which judge and apply by themselves.

*extend* is lean: runs that stay with their worker. *change* is for everything else. Each is one transaction and one
round trip. The lean ones go first: when the other statement is refused they answer *done* the next time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from stepwell.store.codec import encode_failure
from stepwell.store.postgres.sql import columns, is_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepwell.store.postgres.opening import Connection
    from stepwell.store.protocol import Advance, Verdict

_ROW_COLUMNS = 17
_NODE, _KIND, _ATTEMPT, _STATUS, _ERROR, _WORKER, _NAME = 2, 6, 7, 8, 11, 15, 16
_USUAL: dict[int, object] = {
    3: "",
    4: "do",
    5: 0,
    _KIND: "step",
    _ATTEMPT: 1,
    _STATUS: "completed",
    10: None,
    _ERROR: None,
    12: None,
    _WORKER: 1,
    _NAME: "",
}
"""The columns of journal rows that mostly hold one value, which the statements know."""
_STORED_AS_NULL = frozenset({_KIND, _ATTEMPT, _STATUS})
_NOTHING = (None, None)


async def commit(
    connection: Connection, queries: Mapping[str, str], worker_id: str, advances: Sequence[Advance]
) -> list[Verdict]:
    """Applies each advance whose run is still owned as it says; the verdicts in order."""
    verdicts: list[Verdict] = ["lost"] * len(advances)
    lean = [at for at, advance in enumerate(advances) if advance.lean and is_id(advance.run_id)]
    other = [at for at, advance in enumerate(advances) if not advance.lean and is_id(advance.run_id)]
    for name, places in (("extend", lean), ("change", other)):
        if places:
            some = [advances[at] for at in places]
            arrays, names = _lean(worker_id, some) if name == "extend" else _full(worker_id, some)
            found = await connection.fetch(queries[name], worker_id, *arrays, names)
            if found[0][0] == "unnamed":  # nothing was written: some name has no number yet, which lasts for ever
                await connection.execute(queries["add_names"], names)
                found = await connection.fetch(queries[name], worker_id, *arrays, names)
            for at, (verdict,) in zip(places, found, strict=True):
                verdicts[at] = verdict
    return verdicts


_Given: TypeAlias = "tuple[list[Sequence[object]], Sequence[str]]"
"""The arrays of a statement, and the names that its rows name by their places, from 1: the worker's, and others."""


def _lean(worker_id: str, advances: Sequence[Advance]) -> _Given:
    facts = [(one.run_id, one.token, one.seq, len(one.rows), one.position) for one in advances]
    rows, names = _rows(worker_id, advances)
    return [*columns(facts, 5), *rows], names


def _full(worker_id: str, advances: Sequence[Advance]) -> _Given:
    facts = [
        (
            one.run_id,
            one.token,
            one.seq,
            len(one.rows),
            one.seen,
            one.position,
            one.status,
            one.release,
            one.due_at,
            one.wake_at,
            one.awaiting,
            one.parked_at,
            one.ended,
        )
        for one in advances
    ]
    numbered = list(enumerate(advances, 1))
    letters = [
        (at, post.parent_id, post.parent_node, post.value, None if post.error is None else encode_failure(post.error))
        for at, one in numbered
        if (post := one.post) is not None
    ]
    consumed = [(at, n) for at, one in numbered for n in one.consumed]
    spawned = [
        (at, new.run_id, new.lane, new.workflow, new.delay, new.parent_id, new.parent_node, new.value)
        for at, one in numbered
        for new in one.spawned
    ]
    rows, names = _rows(worker_id, advances)
    arrays = [
        *columns(facts, 13),
        *columns(letters, 5),
        *rows[:-1],
        *columns(consumed, 2),
        *columns(spawned, 8),
        *columns([one.absent or _NOTHING for one in advances], 2),
        rows[-1],
    ]
    return arrays, names


def _rows(worker_id: str, advances: Sequence[Advance]) -> _Given:
    """The journal's columns, and in the place of the store's own name of the run, the place of its advance."""
    places: list[int] = []
    rows: list[tuple[Any, ...]] = []
    for at, one in enumerate(advances, 1):
        for row in one.rows:
            places.append(at)
            rows.append(row)
    arrays = columns(rows, _ROW_COLUMNS)
    numbers = {worker_id: 1}
    for column in (_NODE, _WORKER):
        named: Sequence[Any] = arrays[column]
        arrays[column] = [numbers.setdefault(name, len(numbers) + 1) for name in named]
    arrays[0] = places
    for column, usual in _USUAL.items():
        if arrays[column].count(usual) == len(rows):  # each element that is not sent saves the driver 0.3 µs
            arrays[column] = ()
        elif column in _STORED_AS_NULL:
            arrays[column] = [None if value == usual else value for value in arrays[column]]
    failures: Sequence[Any] = arrays[_ERROR]
    arrays[_ERROR] = [None if error is None else encode_failure(error) for error in failures]
    return arrays, list(numbers)
