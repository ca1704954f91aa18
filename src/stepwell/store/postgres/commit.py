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

    from stepwell.store.postgres.opening import Connection
    from stepwell.store.protocol import Advance, Verdict

_ROW_COLUMNS = 16
_ERROR = 11
_USUAL: dict[int, object] = {3: "", 4: "do", 5: 0, 6: "step", 7: 1, 8: "completed", 10: None, 11: None, 12: None}
"""The columns of journal rows that mostly hold one value, which the statements know."""
_WORKER = 15
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
            arrays = _lean(worker_id, some) if name == "extend" else _full(worker_id, some)
            for at, (verdict,) in zip(places, await connection.fetch(queries[name], worker_id, *arrays), strict=True):
                verdicts[at] = verdict
    return verdicts


def _lean(worker_id: str, advances: Sequence[Advance]) -> list[Sequence[object]]:
    facts = [(one.run_id, one.token, one.seq, len(one.rows), one.position) for one in advances]
    return [*columns(facts, 5), *_rows(worker_id, advances)]


def _full(worker_id: str, advances: Sequence[Advance]) -> list[Sequence[object]]:
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
        *_rows(worker_id, advances),
        *columns(consumed, 2),
        *columns(spawned, 8),
        *columns([one.absent or _NOTHING for one in advances], 2),
    ]


def _rows(worker_id: str, advances: Sequence[Advance]) -> list[Sequence[object]]:
    """The journal's columns, and in the place of the store's own name of the run, the place of its advance."""
    places: list[int] = []
    rows: list[tuple[Any, ...]] = []
    for at, one in enumerate(advances, 1):
        for row in one.rows:
            places.append(at)
            rows.append(row)
    arrays = columns(rows, _ROW_COLUMNS)
    arrays[0] = places
    for column, usual in (*_USUAL.items(), (_WORKER, worker_id)):
        if arrays[column].count(usual) == len(rows):  # each element that is not sent saves the driver 0.3 µs
            arrays[column] = ()
    failures: Sequence[Any] = arrays[_ERROR]
    arrays[_ERROR] = [None if error is None else encode_failure(error) for error in failures]
    return arrays
