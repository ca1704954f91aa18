"""The claim: which due runs a worker is given, and their leases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.store.protocol import Claimed, Lease
from stepwell.store.sqlite.sql import Q, as_json, from_json

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_leases = msgspec.json.Decoder(
    list[
        tuple[
            str, int, int, int, int, int, int, int, str, int | None, str | None, int | None, str | None, str | None, str
        ]
    ]
).decode


def claim_due(
    connection: sqlite3.Connection, now: int, worker_id: str, lanes: Sequence[int], *, limit: int, suspects: int
) -> Claimed:
    """Leases up to `limit` due runs of these lanes, oldest first, among them up to so many suspects."""
    if connection.execute(Q["is_enlisted"], (worker_id,)).fetchone() is None:
        return Claimed([], now, None, alive=False)
    refs: list[int] = []
    for suspect, room in ((True, min(suspects, limit)), (False, limit)):
        for lane in lanes:
            left = (room if suspect else limit) - len(refs)
            if left > 0:
                wanted = {"lane": lane, "now": now, "suspect": suspect, "limit": left}
                refs += from_json(connection.execute(Q["find_due"], wanted).fetchone()[0])
    if not refs:
        due = connection.execute(Q["next_due"], {"lanes": as_json(list(lanes)), "now": now}).fetchone()[0]
        return Claimed([], now, None if due is None else due - now)
    named = {"refs": as_json(refs), "worker": worker_id, "now": now}
    connection.execute(Q["lease"], named)
    return Claimed(_leased(connection, named, refs), now, 0)


def _leased(connection: sqlite3.Connection, named: dict[str, object], refs: Sequence[int]) -> list[Lease]:
    """The leases of claimed runs; those of damaged rows too, so that whoever claimed them can tell."""
    try:
        found: Sequence[tuple[Any, ...]] = _leases(connection.execute(Q["leased"], named).fetchone()[0])
    except ValueError:  # some input is no text
        found = ()
    if len(found) == len(refs):
        return [Lease._make((*lease[:-1], lease[-1].encode())) for lease in found]
    one_by_one = (connection.execute(Q["leased_run"], (ref,)).fetchone() for ref in refs)
    return [Lease._make((*lease[:-1], lease[-1] or b"")) for lease in one_by_one]
