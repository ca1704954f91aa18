"""What the edges read of an SQLite store; each method is one short read transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.core.journal import JournalRow
from stepwell.core.mailbox import Message, MessageName
from stepwell.core.statuses import LIVE, Status
from stepwell.store.pages import lookup_of
from stepwell.store.records import (
    ANY_CHANGES,
    Changes,
    Child,
    Definition,
    Filter,
    Found,
    History,
    KeyedMessage,
    Lane,
    Lease,
    Leased,
    Page,
    RunRow,
    Situation,
    Snapshot,
    Wanted,
)
from stepwell.store.sqlite.sql import Q, as_json, from_json

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

    from stepwell.store.codec import Codec
    from stepwell.store.sqlite.transaction_queue import TransactionQueue

_CONDITIONS = {
    "status": "r.status = :status",
    "workflow": "r.workflow = :workflow",
    "key": "r.key = :key",
    "parent_id": "r.parent_id = :parent_id",
    "before": "r.id < :before",
}
_FAILING = {"failed", "compensating", "canceled"}
"""Only such runs have rows that tell of a failure or of an undoing."""
_TRYING = {"running", "compensating"}
"""Only such runs try anything again."""


class SqliteReader:
    """Reads runs, journals and pages; what the edges ask for does not hold up what workers load."""

    def __init__(
        self, turns: TransactionQueue, looking: TransactionQueue, now: Callable[[], int], codec: Codec, *, shared: bool
    ) -> None:
        self._turns = turns
        self._looking = looking
        self._now = now
        self._codec = codec
        self._shared = shared
        self._version = -1

    async def snapshot(self, run_id: str) -> Snapshot | None:
        """The run with its journal and children."""

        def read(connection: sqlite3.Connection) -> Snapshot | None:
            found = connection.execute(Q["find_run"], {"run_id": run_id}).fetchone()
            if found is None:
                return None
            children = _page(connection, self._codec, Filter(None, None, None, run_id, -1, None))
            ref, run = found[-1], RunRow(*found[:-1])
            unread = _unread(connection, {ref: run_id}).get(run_id, {}) if run.messages else {}
            return Snapshot(run, rows_of(connection, self._codec, ref), children, unread)

        return await self._looking.run(read)

    async def result(self, run_id: str) -> Snapshot | None:
        """The run with its journal alone."""

        def read(connection: sqlite3.Connection) -> Snapshot | None:
            found = connection.execute(Q["find_run"], {"run_id": run_id}).fetchone()
            if found is None:
                return None
            return Snapshot(RunRow(*found[:-1]), rows_of(connection, self._codec, found[-1]), Page([], {}))

        return await self._looking.run(read)

    async def journal(self, run_id: str) -> list[JournalRow] | None:
        """The run's journal in order; None when there is no such run."""

        def read(connection: sqlite3.Connection) -> list[JournalRow] | None:
            found = connection.execute(Q["find_ref"], {"run_id": run_id}).fetchone()
            return None if found is None else rows_of(connection, self._codec, found[0])

        return await self._looking.run(read)

    async def page(self, wanted: Filter) -> Page:
        """Runs, newest first, without inputs."""
        return await self._looking.run(lambda connection: _page(connection, self._codec, wanted))

    async def situation(self, run_ids: Sequence[str]) -> Situation:
        """What tells why these runs do not move; those that are not stored are left out."""
        ids = as_json(list(run_ids))

        def read(connection: sqlite3.Connection) -> Situation:
            sql = Q["list_runs"].format(conditions="r.id IN (SELECT value FROM json_each(:ids))", order="r.id")
            page = _with_facts(connection, self._codec, connection.execute(sql, {"ids": ids, "limit": -1}).fetchall())
            children = [Child(*found) for found in connection.execute(Q["living_children"], {"ids": ids}).fetchall()]
            held = dict(connection.execute(Q["held_by_worker"]).fetchall())
            served = {
                lane: Definition(Lane(*named), outline)
                for lane, *named, outline in connection.execute(Q["served"]).fetchall()
            }
            return Situation(self._now(), page, children, held, served)

        return await self._looking.run(read)

    async def ended(self, run_ids: Sequence[str]) -> Mapping[str, Status | None]:
        """Those of the runs that are not alive, with their status; None for one that is not stored."""

        def read(connection: sqlite3.Connection) -> dict[str, Status | None]:
            found = dict(connection.execute(Q["find_ended"], {"ids": as_json(list(run_ids))}).fetchall())
            return {run_id: found.get(run_id) for run_id in run_ids if found.get(run_id) not in LIVE}

        return await self._looking.run(read)

    async def keyed_message(self, run_id: str, key: str) -> KeyedMessage | None:
        """The message by which the run accepted this key; None when there is none."""
        asked = {"run_id": run_id, "key": key}
        found = await self._looking.run(
            lambda connection: connection.execute(Q["find_keyed_message"], asked).fetchone()
        )
        return None if found is None else KeyedMessage(*found)

    async def outline(self, lane: int) -> bytes | None:
        """The outline of the workflow whose runs wait in this lane."""
        asked = {"lane": lane}
        found = await self._looking.run(lambda connection: connection.execute(Q["find_outline"], asked).fetchone())
        return None if found is None else bytes(found[0])

    async def lane(self, run_id: str) -> int | None:
        """The lane of a run; None when there is no such run."""
        asked = {"run_id": run_id}
        found = await self._looking.run(lambda connection: connection.execute(Q["lane_of"], asked).fetchone())
        return None if found is None else int(found[0])

    async def load(self, wanted: Sequence[Wanted], most_bytes: int) -> Mapping[str, History]:
        """The past of the first of these claimed runs, as many as the bytes allow."""

        def read(connection: sqlite3.Connection) -> dict[str, History]:
            found: dict[str, History] = {}
            total = 0
            for one in wanted:
                if found:
                    total += connection.execute(Q["journal_size"], {"ref": one.lease.ref}).fetchone()[0]
                    if total > most_bytes:
                        break
                history = found[one.lease.run_id] = _history(connection, self._codec, one)
                if len(found) == 1:
                    total = history.size
            return found

        return await self._turns.run(read)

    async def find_messages(self, lease: Lease, after: Mapping[MessageName, int]) -> Found:
        """The first unread message of each name behind its number."""
        return await self._turns.run(lambda connection: _found(connection, self._codec, lease.ref, after))

    async def leased(self, worker_id: str) -> Leased:
        """The runs leased to a worker."""

        def read(connection: sqlite3.Connection) -> Leased:
            return Leased(*map(from_json, connection.execute(Q["owned"], {"worker": worker_id}).fetchone()))

        return await self._turns.run(read)

    async def changed(self) -> Changes | None:
        """Anything, if another connection may have written since the last call."""
        if not self._shared:
            return None
        version = await self._turns.run(lambda connection: connection.execute("PRAGMA data_version").fetchone()[0])
        changed = version != self._version
        self._version = version
        return ANY_CHANGES if changed else None


def rows_of(connection: sqlite3.Connection, codec: Codec, ref: int) -> list[JournalRow]:
    """A run's journal, in order."""
    return [_row(found, codec) for found in connection.execute(Q["journal_of"], {"ref": ref}).fetchall()]


def _history(connection: sqlite3.Connection, codec: Codec, wanted: Wanted) -> History:
    ref, needed = wanted.lease.ref, wanted.rows
    found = _found(connection, codec, ref, {} if wanted.message is None else {wanted.message: 0})
    if needed is None:
        return History(rows_of(connection, codec, ref), found)
    nodes = [*((name, False) for name in needed.whole), *((name, True) for name in needed.last)]
    rows = connection.execute(Q["journal_parts"], {"ref": ref, "nodes": as_json(nodes)}).fetchall()
    return History([_row(one, codec) for one in rows], found, needed.last)


def _found(connection: sqlite3.Connection, codec: Codec, ref: int, after: Mapping[MessageName, int]) -> Found:
    # a run that was deleted since it was claimed has no row: the commit that names it is answered "lost"
    (messages,) = connection.execute(Q["message_counts"], {"ref": ref}).fetchone() or (0,)
    found = []
    for name, behind in after.items():
        stored = connection.execute(Q["find_message"], {"ref": ref, **name._asdict(), "after": behind}).fetchone()
        if stored is not None:
            n, kind, word, value, error, sender = stored
            failure = None if error is None else codec.decode_failure(error, word)
            found.append(Message(n, kind, word, value, failure, sender))
    return Found((*after,), messages, (*found,))


def _row(found: tuple[Any, ...], codec: Codec) -> JournalRow:
    row = JournalRow(*found)
    if row.error is None:
        return row
    encoded: Any = row.error
    return row._replace(error=codec.decode_failure(encoded, row.node))


def page_sql(wanted: Filter) -> str:
    """The statement for a page: a unary plus keeps a column from being looked up by an index of its own."""
    lookup = lookup_of(wanted)
    given = (name for name, value in wanted._asdict().items() if name in _CONDITIONS and value is not None)
    chosen = " AND ".join(("" if name in lookup.by else "+") + _CONDITIONS[name] for name in given) or "TRUE"
    return Q["list_runs"].format(conditions=chosen, order="r.id" if lookup.ordered else "+r.id")


def _page(connection: sqlite3.Connection, codec: Codec, wanted: Filter) -> Page:
    return _with_facts(connection, codec, connection.execute(page_sql(wanted), wanted._asdict()).fetchall())


def _with_facts(connection: sqlite3.Connection, codec: Codec, found: Sequence[tuple[Any, ...]]) -> Page:
    """A page of these rows, with what else is shown of their runs; one query for each sort of fact, none a run."""
    runs = {line[-1]: RunRow(*line[:-1]) for line in found}
    failing = {ref: run.run_id for ref, run in runs.items() if run.status in _FAILING}
    trying = {ref: run.run_id for ref, run in runs.items() if run.status in _TRYING}
    rows: dict[str, list[JournalRow]] = {}
    for row in _of_all(connection, "failure_rows", failing):
        rows.setdefault(failing[row[0]], []).append(_row(row, codec))
    tried = _of_all(connection, "open_retries", trying)
    retries = {trying[row[0]]: _row(row, codec) for row in tried}
    return Page(
        list(runs.values()),
        rows,
        retries,
        _unread(connection, {r: one.run_id for r, one in runs.items() if one.messages}),
    )


def _of_all(connection: sqlite3.Connection, query: str, runs: Mapping[int, str]) -> Sequence[tuple[Any, ...]]:
    """What a query gives for all these runs; nothing is asked for none."""
    return connection.execute(Q[query], {"refs": as_json(list(runs))}).fetchall() if runs else ()


def _unread(connection: sqlite3.Connection, runs: Mapping[int, str]) -> dict[str, dict[str, int]]:
    """How many signals these runs have not used, by name."""
    unread: dict[str, dict[str, int]] = {}
    for ref, name, count in _of_all(connection, "unread_signals", runs):
        unread.setdefault(runs[ref], {})[name] = count
    return unread
