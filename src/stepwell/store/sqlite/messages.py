"""What comes to runs from outside their workers: signals, the ends of children, and the cancel of a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stepwell.core.statuses import ENDED, Status
from stepwell.errors import Failure
from stepwell.store.records import ChildEnd, Delivered, as_column, awaited_in
from stepwell.store.sqlite.sql import Q, as_json, bulk, next_turn

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from stepwell.store.codec import Codec


class Signal(NamedTuple):
    """A signal for a run; one that is `waiting_only` is for a run that waits for it."""

    run_id: str
    name: str
    value: bytes
    key: str | None
    waiting_only: bool
    receipt: bytes | None


def deliver(connection: sqlite3.Connection, now: int, signal: Signal) -> Delivered | None:
    """Puts a signal into the run's mailbox; None when there is no such run."""
    found = connection.execute(Q["find_signaled"], {"run_id": signal.run_id}).fetchone()
    if found is None:
        return None
    ref, stored, awaiting, worker, messages, lane = found
    status: Status = stored
    key = {"ref": ref, "key": signal.key}
    if signal.key is not None and connection.execute(Q["has_message_key"], key).fetchone():
        return Delivered(accepted=True, status=status, woken=False, lane=lane)
    awaited = awaited_in(awaiting)
    wakes = signal.name in awaited
    if status in ENDED or (signal.waiting_only and not wakes):
        return Delivered(accepted=False, status=status, woken=False, lane=lane)
    message = {"n": messages + 1, "kind": "signal", "name": signal.name, "value": signal.value, "error": None}
    kept = {"delivered_at": now, "receipt": signal.receipt, "sender": None}
    connection.execute(Q["add_message"], {**key, **message, **kept})
    turn = next_turn(connection) if wakes else None
    left = as_column([name for name in awaited if name != signal.name])
    connection.execute(Q["deliver_signal"], {"ref": ref, "now": now, "turn": turn, "wakes": wakes, "left": left})
    status = "running" if wakes and status == "suspended" else status
    return Delivered(accepted=True, status=status, woken=wakes and worker is None, lane=lane)


def cancel(connection: sqlite3.Connection, codec: Codec, now: int, run_id: str) -> list[str] | None:
    """Cancels the run and its descendants that have not ended; their ids, or None when there is no such run."""
    parent = connection.execute(Q["parent_of"], {"run_id": run_id}).fetchone()
    if parent is None:
        return None
    ids = [found for (found,) in connection.execute(Q["find_tree"], {"run_id": run_id}).fetchall()]
    connection.execute(Q["cancel"], {"now": now, "ids": as_json(ids)})
    parent_id, parent_node = parent
    if run_id in ids and parent_id is not None:
        error = Failure(parent_node, "ChildCanceled", f"run {run_id} was canceled")
        end = ChildEnd(parent_id, parent_node, None, error)
        tell_parents(connection, codec, now, [(run_id, end)], next_turn(connection))
    return ids


def request_cancel(connection: sqlite3.Connection, now: int, run_id: str) -> list[str] | None:
    """Notes that the run and its descendants that have not ended are to be undone and canceled."""
    if connection.execute(Q["parent_of"], {"run_id": run_id}).fetchone() is None:
        return None
    ids = [found for (found,) in connection.execute(Q["find_tree"], {"run_id": run_id}).fetchall()]
    asked = {"now": now, "turn": next_turn(connection), "ids": as_json(ids)}
    return [found for (found,) in connection.execute(Q["request_cancel"], asked).fetchall()]


def tell_parents(
    connection: sqlite3.Connection, codec: Codec, now: int, ends: Sequence[tuple[str, ChildEnd]], turn: int
) -> None:
    """Puts the ends of children into their parents' mailboxes; of one parent's children one after the other.

    In two statements for all parents: each one that is run costs a switch of threads while the event loop computes.
    """
    while ends:
        first: dict[str, tuple[object, ...]] = {}
        later: list[tuple[str, ChildEnd]] = []
        for child_id, end in ends:
            if end.parent_id in first:
                later.append((child_id, end))
            else:
                error = None if end.error is None else codec.encode_failure(end.error)
                first[end.parent_id] = (end.parent_id, end.parent_node, end.value, error, child_id)
        bulk(connection, "add_ends", list(first.values()))
        bulk(connection, "tell_parent", [(parent_id,) for parent_id in first], given=(now, turn))
        ends = later
