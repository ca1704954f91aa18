"""The claim: which due runs a worker is given, and their leases."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from stepwell.store.records import AT_ONCE, Claimed, Lease
from stepwell.store.sqlite.sql import Q, as_json, from_json

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_leases = msgspec.json.Decoder(
    list[
        tuple[
            str,
            int,
            int,
            int,
            int,
            int,
            int,
            int,
            str,
            int | None,
            str | None,
            int | None,
            str | None,
            str | None,
            int | None,
            str,
        ]
    ]
).decode


_FIRST_TURN = -(1 << 63)
_MOST_CRASHES = (1 << 63) - 1
_TOGETHER_BYTES = 2**20
"""Inputs of more than this together are read one by one, not as one text: a text has a limit, and escapes to bear."""


class Room(NamedTuple):
    """What a claim may take; as the protocol's `claim` says."""

    limit: int
    suspects: int
    worst: bool
    timers_first: bool
    most_bytes: int


def claim_due(connection: sqlite3.Connection, now: int, worker_id: str, lanes: Sequence[int], room: Room) -> Claimed:
    """Leases due runs of these lanes, as many as there is room for."""
    if connection.execute(Q["is_enlisted"], {"worker": worker_id}).fetchone() is None:
        return Claimed([], now, None, alive=False)
    found = _suspects(connection, now, lanes, room)
    found += _others(connection, now, lanes, room, room.limit - len(found))
    if not found:
        due = connection.execute(Q["next_due"], {"lanes": as_json(list(lanes)), "now": now}).fetchone()[0]
        return Claimed([], now, None if due is None else due - now)
    sizes: dict[str, int] = from_json(connection.execute(Q["input_sizes"], {"refs": as_json(found)}).fetchone()[0])
    refs: list[int] = []
    total = 0
    for ref in found:
        total += sizes.get(str(ref), 0)
        if refs and total > room.most_bytes:
            break
        refs.append(ref)
    named = {"refs": as_json(refs), "worker": worker_id, "now": now}
    connection.execute(Q["lease"], named)
    large = sum(sizes.get(str(ref), 0) for ref in refs) > _TOGETHER_BYTES
    leases = _one_by_one(connection, refs) if large else _leased(connection, named, refs)
    return Claimed(leases, now, 0, cut=len(refs) < len(found))


def _suspects(connection: sqlite3.Connection, now: int, lanes: Sequence[int], room: Room) -> list[int]:
    """Those that crashed two workers, as many as may come; with none of these, one of those that crashed more."""
    most = min(room.suspects, room.limit)
    found: list[int] = []
    for lane in lanes:
        if len(found) < most:
            wanted = {"lane": lane, "now": now, "least": 2, "most": 2, "limit": most - len(found)}
            found += from_json(connection.execute(Q["find_suspects"], wanted).fetchone()[0])
    for lane in lanes:
        if room.worst and most > 0 and not found:
            wanted = {"lane": lane, "now": now, "least": 3, "most": _MOST_CRASHES, "limit": 1}
            found += from_json(connection.execute(Q["find_suspects"], wanted).fetchone()[0])
    return found


def _others(connection: sqlite3.Connection, now: int, lanes: Sequence[int], room: Room, most: int) -> list[int]:
    """What is due at once and timers that are over, by turns."""

    def find(after: int, until: int) -> list[int]:
        found: list[int] = []
        for lane in lanes:
            if len(found) < most:
                wanted = {"lane": lane, "after": after, "until": until, "limit": most - len(found)}
                found += from_json(connection.execute(Q["find_due"], wanted).fetchone()[0])
        return found

    at_once, timers = find(_FIRST_TURN, AT_ONCE), find(AT_ONCE, now)
    kinds = (timers, at_once) if room.timers_first else (at_once, timers)
    return [ref for pair in zip_longest(*kinds) for ref in pair if ref is not None][:most]


def _leased(connection: sqlite3.Connection, named: dict[str, object], refs: Sequence[int]) -> list[Lease]:
    """The leases of claimed runs; those of damaged rows too, so that the worker that claimed them can report it."""
    try:
        found: Sequence[tuple[Any, ...]] = _leases(connection.execute(Q["leased"], named).fetchone()[0])
    except ValueError:  # some input is no text
        found = ()
    if len(found) == len(refs):
        return [Lease._make((*lease, value.encode(), asked)) for *lease, asked, value in found]
    return _one_by_one(connection, refs)


def _one_by_one(connection: sqlite3.Connection, refs: Sequence[int]) -> list[Lease]:
    found = (connection.execute(Q["leased_run"], {"ref": ref}).fetchone() for ref in refs)
    return [Lease._make((*lease, value or b"", asked)) for *lease, asked, value in found]
