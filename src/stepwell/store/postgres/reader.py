"""What the edges read of a PostgreSQL store; what one call reads is of one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.core.journal import JournalRow
from stepwell.core.mailbox import Message, MessageName
from stepwell.core.statuses import LIVE, Status
from stepwell.store.pages import lookup_of
from stepwell.store.postgres.sql import Queries, columns, compiled, is_id, is_text, pairs
from stepwell.store.records import (
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stepwell.store.codec import Codec
    from stepwell.store.postgres.connection import Connections
    from stepwell.store.postgres.notifier import Notifier
    from stepwell.store.postgres.opening import Connection

_ID_OUT_OF_ORDER = 'r.id::text COLLATE "C"'
_CONDITIONS = {
    "status": ("r.status = $status", "r.status || '' = $status"),
    "workflow": ("r.workflow = $workflow", "r.workflow || '' = $workflow"),
    "key": ("r.key = $key", "r.key = $key"),
    "parent_id": ("r.parent_id = $parent_id", "r.parent_id::text = $parent_id"),
    "before": ("r.id < $before", f"{_ID_OUT_OF_ORDER} < $before"),
}
"""Each as an index answers it, and written so that no index fits it."""
_FAILING = {"failed", "compensating", "canceled"}
"""Only such runs have rows that tell of a failure or of an undoing."""
_TRYING = {"running", "compensating"}
"""Only such runs try anything again."""
_ALL = 2**62


class PostgresReader:
    """Reads runs, journals and pages."""

    def __init__(self, connections: Connections, notifier: Notifier, queries: Queries, codec: Codec) -> None:
        self._connections = connections
        self._notifier = notifier
        self._queries = queries
        self._codec = codec

    async def snapshot(self, run_id: str) -> Snapshot | None:
        """The run with its journal and children."""
        if not is_id(run_id):
            return None

        async def read(connection: Connection) -> Snapshot | None:
            found = await connection.fetchrow(*self._queries("find_run", run_id=run_id))
            if found is None:
                return None
            rows = await self._rows(connection, "journal_of", ids=[run_id])
            children = await self._page(connection, Filter(None, None, None, run_id, _ALL, None))
            run = RunRow(*found)
            unread = (await self._unread(connection, [run_id])).get(run_id, {}) if run.messages else {}
            return Snapshot(run, rows.get(run_id, []), children, unread)

        return await self._connections.look(read)

    async def result(self, run_id: str) -> Snapshot | None:
        """The run with its journal alone."""
        if not is_id(run_id):
            return None
        found = [tuple(each) for each in await self._connections.fetch(*self._queries("find_result", run_id=run_id))]
        if not found:
            return None
        width = len(RunRow._fields)
        rows = [self._row(each[width:]) for each in found if each[width] is not None]
        return Snapshot(RunRow._make(found[0][:width]), rows, Page([], {}))

    async def journal(self, run_id: str) -> list[JournalRow] | None:
        """The run's journal in order; None when there is no such run."""
        if not is_id(run_id):
            return None

        async def read(connection: Connection) -> list[JournalRow] | None:
            stored = await connection.fetchval(*self._queries("find_ref", run_id=run_id)) is not None
            rows = await self._rows(connection, "journal_of", ids=[run_id])
            return rows.get(run_id, []) if stored else None

        return await self._connections.look(read)

    async def page(self, wanted: Filter) -> Page:
        """Runs, newest first, without inputs."""
        texts = (wanted.status, wanted.workflow, wanted.key)
        ids = (wanted.parent_id, wanted.before)
        if not all(map(is_text, texts)) or not all(one is None or is_id(one) for one in ids):
            return Page([], {})
        return await self._connections.look(lambda connection: self._page(connection, wanted))

    async def situation(self, run_ids: Sequence[str]) -> Situation:
        """What tells why these runs do not move; those that are not stored are left out."""
        ids = [run_id for run_id in run_ids if is_id(run_id)]

        async def read(connection: Connection) -> Situation:
            query = self._queries
            page = await self._with_facts(connection, await connection.fetch(*query("list_runs_by_id", ids=ids)))
            children = [Child(*found) for found in await connection.fetch(*query("living_children", ids=ids))]
            held: dict[str, int] = pairs(await connection.fetch(*query("held_by_worker")))
            served = {
                lane: Definition(Lane(*named), outline)
                for lane, *named, outline in await connection.fetch(*query("served"))
            }
            return Situation(await connection.fetchval(*query("now")), page, children, held, served)

        return await self._connections.look(read)

    async def ended(self, run_ids: Sequence[str]) -> Mapping[str, Status | None]:
        """Those of the runs that are not alive, with their status; None for one that is not stored."""
        known = [run_id for run_id in run_ids if is_id(run_id)]
        found: dict[str, Status] = {}
        if known:
            found = pairs(await self._connections.fetch(*self._queries("find_ended", ids=known)))
        return {run_id: found.get(run_id) for run_id in run_ids if found.get(run_id) not in LIVE}

    async def keyed_message(self, run_id: str, key: str) -> KeyedMessage | None:
        """The message by which the run accepted this key; None when there is none."""
        if not is_id(run_id):
            return None
        asked = {"run_id": run_id, "key": key}
        for found in await self._connections.fetch(*self._queries("find_keyed_message", **asked)):
            return KeyedMessage(*found)
        return None

    async def outline(self, lane: int) -> bytes | None:
        """The outline of the workflow whose runs wait in this lane."""
        for (outline,) in await self._connections.fetch(*self._queries("find_outline", lane=lane)):
            return bytes(outline)
        return None

    async def lane(self, run_id: str) -> int | None:
        """The lane of a run; None when there is no such run."""
        if not is_id(run_id):
            return None
        for (lane,) in await self._connections.fetch(*self._queries("lane_of", run_id=run_id)):
            return int(lane)
        return None

    async def load(self, wanted: Sequence[Wanted], most_bytes: int) -> Mapping[str, History]:
        """The past of the first of these claimed runs, as many as the bytes allow, in an answer of its own."""
        wanted = await self._first_of(wanted, most_bytes)
        names = {one.lease.run_id: {} if one.message is None else {one.message: 0} for one in wanted}
        last_of = {one.lease.run_id: () if one.rows is None else one.rows.last for one in wanted}
        whole = [one.lease.run_id for one in wanted if one.rows is None]
        parts = [
            (one.lease.run_id, node, is_last)
            for one in wanted
            if one.rows is not None
            for is_last, nodes in ((False, one.rows.whole), (True, one.rows.last))
            for node in nodes
        ]

        async def read(connection: Connection) -> dict[str, History]:
            found = await self._found(connection, names)
            rows = await self._rows(connection, "journal_of", ids=whole) if whole else {}
            if parts:
                rows |= await self._rows(connection, "journal_parts", wanted=columns(parts, 3))
            return {run_id: History(rows.get(run_id, []), found[run_id], last) for run_id, last in last_of.items()}

        return await self._connections.run(read)

    async def _first_of(self, wanted: Sequence[Wanted], most_bytes: int) -> Sequence[Wanted]:
        if len(wanted) == 1:
            return wanted
        ids = [one.lease.run_id for one in wanted]
        sizes = await self._connections.fetch(*self._queries("journal_sizes", ids=ids))
        total = 0
        for at, (size,) in enumerate(sizes):
            total += int(size)
            if at and total > most_bytes:
                return wanted[:at]
        return wanted

    async def find_messages(self, lease: Lease, after: Mapping[MessageName, int]) -> Found:
        """The first unread message of each name behind its number; they are counted before the mailbox is read."""
        run_id = lease.run_id
        return (await self._connections.run(lambda connection: self._found(connection, {run_id: after})))[run_id]

    async def _found(self, connection: Connection, after: Mapping[str, Mapping[MessageName, int]]) -> dict[str, Found]:
        counts: dict[str, int] = pairs(await connection.fetch(*self._queries("message_counts", ids=list(after))))
        wanted = [
            (run_id, *name, behind)
            for run_id, names in after.items()
            if counts.get(run_id)
            for name, behind in names.items()
        ]
        messages: dict[str, list[Message]] = {run_id: [] for run_id in after}
        if wanted:
            found = await connection.fetch(*self._queries("find_messages", wanted=columns(wanted, 4)))
            for run_id, n, kind, word, value, error, sender in found:
                failure = None if error is None else self._codec.decode_failure(error, word)
                messages[run_id].append(Message(n, kind, word, value, failure, sender))
        return {
            run_id: Found((*names,), counts.get(run_id, 0), (*messages[run_id],)) for run_id, names in after.items()
        }

    async def leased(self, worker_id: str) -> Leased:
        """The runs leased to a worker."""
        found = await self._connections.fetch(*self._queries("owned", worker=worker_id))
        asked = [run_id for run_id, _, is_asked in found if is_asked]
        return Leased({run_id: token for run_id, token, _ in found}, asked)

    async def changed(self) -> Changes | None:
        """Waits a little for another process to say what it wrote; anything now and then without that."""
        return await self._notifier.changed()

    async def _rows(self, connection: Connection, query: str, **given: Sequence[object]) -> dict[str, list[JournalRow]]:
        rows: dict[str, list[JournalRow]] = {}
        for run_id, *rest in await connection.fetch(*self._queries(query, **given)):
            rows.setdefault(run_id, []).append(self._row(rest))
        return rows

    def _row(self, found: Sequence[Any]) -> JournalRow:
        row = JournalRow(0, *found)
        if row.error is None:
            return row
        encoded: Any = row.error
        return row._replace(error=self._codec.decode_failure(encoded, row.node))

    async def _page(self, connection: Connection, wanted: Filter) -> Page:
        lookup = lookup_of(wanted)
        given = {name: value for name, value in wanted._asdict().items() if name in _CONDITIONS and value is not None}
        wheres = [_CONDITIONS[name][name not in lookup.by] for name in given]
        sql = self._queries.texts["list_runs"].replace("{conditions}", " AND ".join(wheres) or "true")
        sql = sql.replace("{order}", "r.id" if lookup.ordered else _ID_OUT_OF_ORDER)
        found = await connection.fetch(*compiled(sql)({**given, "limit": min(wanted.limit, _ALL)}))
        return await self._with_facts(connection, found)

    async def _with_facts(self, connection: Connection, found: Sequence[Iterable[Any]]) -> Page:
        """A page of these rows, with what else is shown of their runs; one query for each sort of fact, none a run."""
        runs = [RunRow(*each) for each in found]
        failing = [run.run_id for run in runs if run.status in _FAILING]
        trying = [run.run_id for run in runs if run.status in _TRYING]
        rows = await self._rows(connection, "failure_rows", ids=failing) if failing else {}
        tried = await self._rows(connection, "open_retries", ids=trying) if trying else {}
        unread = await self._unread(connection, [run.run_id for run in runs if run.messages])
        return Page(runs, rows, {run_id: newest for run_id, (newest,) in tried.items()}, unread)

    async def _unread(self, connection: Connection, run_ids: Sequence[str]) -> dict[str, dict[str, int]]:
        """How many signals these runs have not used, by name."""
        unread: dict[str, dict[str, int]] = {}
        found = await connection.fetch(*self._queries("unread_signals", ids=run_ids)) if run_ids else ()
        for run_id, name, count in found:
            unread.setdefault(run_id, {})[name] = count
        return unread
