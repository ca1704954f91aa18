"""The commit of many advances in one transaction: the fences, the rows, the messages and the children.

The usual batch is applied by two bulk statements whose fences are in their WHERE; only when a count does not match is
every run judged by itself, and the batch applied again without those that are refused.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from stepwell.store.columns import all_values, is_usual, own_values
from stepwell.store.records import AT_ONCE, as_column
from stepwell.store.sqlite.messages import tell_parents
from stepwell.store.sqlite.sql import Q, as_json, bulk, from_json, next_turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell.core.journal import JournalRow
    from stepwell.store.codec import Codec
    from stepwell.store.records import Advance, NewRun, Verdict


_LARGEST_REF = 2**62
"""Half of what a column holds: a number that is larger was put there by hand."""


class MismatchError(Exception):
    """An advance in the batch is not owned, or not as long, as it says; the transaction is to be rolled back."""


def commit_trusting(
    connection: sqlite3.Connection, codec: Codec, now: int, worker_id: str, advances: Sequence[Advance]
) -> list[Verdict]:
    """Applies a batch whose fences all hold; raises MismatchError when one does not."""
    _apply(connection, codec, now, worker_id, advances)
    return ["ok"] * len(advances)


def commit_judging(
    connection: sqlite3.Connection, codec: Codec, now: int, worker_id: str, advances: Sequence[Advance]
) -> list[Verdict]:
    """Applies the advances whose fences hold; the verdicts in order."""
    verdicts = [_verdict(connection, worker_id, advance) for advance in advances]
    sound = [advance for advance, verdict in zip(advances, verdicts, strict=True) if verdict == "ok"]
    _apply(connection, codec, now, worker_id, sound)
    return verdicts


def _verdict(connection: sqlite3.Connection, worker_id: str, advance: Advance) -> Verdict:
    stored = connection.execute(Q["fences"], {"ref": advance.ref}).fetchone()
    if stored is None:
        return "lost"
    owner, token, seq, messages, asked = stored
    is_stored = bool(advance.rows) and token == advance.token and seq == advance.seq + len(advance.rows)
    if is_stored and owner == (None if advance.release else worker_id):
        return "done"
    if owner != worker_id or token != advance.token:
        return "lost"
    if seq != advance.seq:
        return "lost"
    if _may_have_come(connection, advance, messages):
        return "message"
    return "cancel" if asked is not None and advance.is_unless_asked else "ok"


def _may_have_come(connection: sqlite3.Connection, advance: Advance, messages: int) -> bool:
    """Whether the message whose absence the advance rests on is there; messages that were lost say nothing."""
    absent, seen = advance.absent, advance.seen
    if not absent or seen == messages:
        return False
    each = ({"ref": advance.ref, **name._asdict(), "after": seen} for name in absent)
    return seen > messages or any(connection.execute(Q["find_message"], name).fetchone() for name in each)


def _apply(connection: sqlite3.Connection, codec: Codec, now: int, worker_id: str, advances: Sequence[Advance]) -> None:
    usual = [advance for advance in advances if advance.usual]
    lean = [advance for advance in advances if advance.lean and not advance.usual]
    other = [advance for advance in advances if not advance.lean and not advance.usual]
    going = [(one.ref, one.token, one.seq, one.position) for one in usual if not one.ended]
    ending = [(one.ref, one.token, one.seq, one.position) for one in usual if one.ended]
    changed = bulk(connection, "append", going, given=(now, worker_id))
    changed += bulk(connection, "finish", ending, given=(now, worker_id))
    changed += bulk(connection, "extend", [_lean(one) for one in lean], given=(now, worker_id))
    turn = next_turn(connection) if other else AT_ONCE
    full = [_full(one, worker_id, now, turn) for one in other]
    changed += bulk(connection, "change", full, given=(now, worker_id))
    if changed != len(advances):
        raise MismatchError
    _add_rows(
        connection,
        codec,
        worker_id,
        [advance.rows[0] for advance in usual],
        [row for advance in advances if not advance.usual for row in advance.rows],
    )
    used = [(advance.ref, n, n in advance.freed) for advance in other for n in advance.consumed]
    bulk(connection, "take_message", used)
    counted = [(one.ref, one.recounted.seq, one.recounted.detail) for one in other if one.recounted is not None]
    if counted:
        bulk(connection, "recount", counted)
    children = [child for advance in other for child in advance.spawned]
    if children:
        add_runs(connection, now, children, turn)
    tell_parents(connection, codec, now, [(one.run_id, one.child_end) for one in other if one.child_end], turn)


def _lean(advance: Advance) -> tuple[object, ...]:
    return (advance.ref, advance.token, advance.seq, len(advance.rows), advance.position)


def _add_rows(
    connection: sqlite3.Connection,
    codec: Codec,
    worker_id: str,
    known: Sequence[JournalRow],
    rows: Sequence[JournalRow],
) -> None:
    """Writes journal rows, of which some are known to be usual.

    Binding is what a row costs, so that a usual one binds the values that it alone has.
    """
    named = {worker_id, *[row.node for row in known], *[row.node for row in rows], *[row.worker for row in rows]}
    numbers = _numbers(connection, named)
    usual: list[Sequence[object]] = [own_values(row, numbers) for row in known]
    other: list[Sequence[object]] = []
    for row in rows:
        if is_usual(row) and row.worker == worker_id:
            usual.append(own_values(row, numbers))
        else:
            other.append(all_values(row, numbers, codec))
    bulk(connection, "add_usual_rows", usual, given=(numbers[worker_id],))
    bulk(connection, "add_rows", other)


def _numbers(connection: sqlite3.Connection, names: set[str]) -> dict[str, int]:
    """The numbers of names, given to those that have none; asked in each commit, since a cache outlives a rollback."""
    wanted = {"names": as_json(list(names))}
    numbers: dict[str, int] = from_json(connection.execute(Q["numbers"], wanted).fetchone()[0])
    if len(numbers) < len(names):
        connection.execute(Q["add_names"], {"names": as_json(sorted(names - numbers.keys()))})
        numbers = from_json(connection.execute(Q["numbers"], wanted).fetchone()[0])
    return numbers


def _full(advance: Advance, worker_id: str, now: int, turn: int) -> tuple[object, ...]:
    return (
        advance.ref,
        advance.token,
        advance.seq,
        len(advance.rows),
        advance.seen,
        advance.is_unless_asked,
        advance.position,
        advance.status,
        None if advance.release else worker_id,
        turn if advance.due_at is not None and advance.due_at <= AT_ONCE else advance.due_at,
        advance.wake_at,
        as_column(advance.awaiting),
        advance.parked_at,
        now if advance.ended else None,
        advance.absent[0].kind if advance.absent else None,
        as_json([name.name for name in advance.absent]) if advance.absent else None,
    )


def add_runs(connection: sqlite3.Connection, now: int, runs: Sequence[NewRun], turn: int) -> None:
    """Writes new runs, due at once or after their delay."""
    ref = connection.execute(Q["next_ref"]).fetchone()[0]
    if ref + len(runs) > _LARGEST_REF:
        raise sqlite3.DatabaseError(f"malformed: a row has a run's number that is too large, {ref - 1}")
    rows = [
        (
            ref + at,
            run.run_id,
            run.lane,
            run.workflow,
            run.key,
            now + run.delay if run.delay > 0 else turn,
            now + run.delay if run.delay > 0 else None,
            run.parent_id,
            run.parent_node,
            now,
        )
        for at, run in enumerate(runs)
    ]
    if bulk(connection, "add_runs", rows) == len(runs):
        bulk(connection, "add_inputs", [(ref + at, run.value) for at, run in enumerate(runs)])
        return
    for at, run in enumerate(runs):
        if connection.execute(Q["find_ref"], {"run_id": run.run_id}).fetchone() == (ref + at,):
            bulk(connection, "add_inputs", [(ref + at, run.value)])
