"""The commit of many advances: the arrays of its two statements, which judge and apply by themselves.

*extend* is lean: runs that stay with their worker. *change* is for everything else. Each is one transaction and one
round trip. The lean ones go first: when the other statement is refused they answer *done* the next time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.store.codec import encode_failure
from stepwell.store.postgres.sql import columns, is_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepwell.store.postgres.connection import Connection
    from stepwell.store.protocol import Advance, Verdict

_ROW_COLUMNS = 16
_ERROR = 11


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
            arrays = _lean(some) if name == "extend" else _full(some)
            for at, (verdict,) in zip(places, await connection.fetch(queries[name], worker_id, *arrays), strict=True):
                verdicts[at] = verdict
    return verdicts


def _lean(advances: Sequence[Advance]) -> list[Sequence[object]]:
    facts = [(one.run_id, one.token, one.seq, len(one.rows), one.position) for one in advances]
    return [*columns(facts, 5), *_rows(advances)]


def _full(advances: Sequence[Advance]) -> list[Sequence[object]]:
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
    return [
        *columns(facts, 13),
        *columns(letters, 5),
        *_rows(advances),
        *columns(consumed, 2),
        *columns(spawned, 8),
    ]


def _rows(advances: Sequence[Advance]) -> list[Sequence[object]]:
    """The journal's columns, and in the place of the store's own name of the run, the place of its advance."""
    places: list[int] = []
    rows: list[tuple[Any, ...]] = []
    for at, one in enumerate(advances, 1):
        for row in one.rows:
            places.append(at)
            rows.append(row)
    arrays = columns(rows, _ROW_COLUMNS)
    arrays[0] = places
    if any(arrays[_ERROR]):
        failures: Sequence[Any] = arrays[_ERROR]
        arrays[_ERROR] = [None if error is None else encode_failure(error) for error in failures]
    return arrays
