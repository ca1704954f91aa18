"""The plans of a store's statements, told by `auto_explain`; what they should be is said elsewhere."""

from __future__ import annotations

import contextlib
import json
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg
import pytest

from stepwell.runtime.system import SystemRuntime
from stepwell.store.postgres.store import PostgresStore
from tests.postgres import dsn, fresh_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

TOLD = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_format": "json",
    "client_min_messages": "log",
}


class Scan(NamedTuple):
    """One access to a table in a plan."""

    way: str
    table: str
    by: str | None
    bounded: bool
    removed: int


@dataclass
class Plan:
    """What one execution of a query did."""

    scans: list[Scan]
    pages: int


class Told:
    """Collects the plans of the store's statements, by what the tables were like and the query's name."""

    def __init__(self, named: dict[str, str]) -> None:
        self.when = ""
        self.plans: dict[str, dict[str, list[Plan]]] = defaultdict(lambda: defaultdict(list))
        self._names = {sql: name for name, sql in named.items()}
        self._page = named["list_runs"].partition("{conditions}")[0]

    def hear(self, _connection: object, message: Any) -> None:
        """One log message of the server's."""
        _, told, text = message.message.partition("plan:\n")
        if not told:
            return
        found = json.loads(text)
        sql = found["Query Text"].strip()
        name = self._names.get(sql)
        if name is None and sql.startswith(self._page):
            asked = re.findall(r"r\.(\w+)(?: \|\| ''|::text(?: COLLATE \"C\")?)? [=<]", sql.partition("WHERE")[2])
            name = " by ".join(["list_runs", *asked])
        if name is not None:
            top = found["Plan"]
            self.plans[self.when][name].append(Plan(list(scans_of(top)), pages_of(top)))


def scans_of(node: dict[str, Any], table: str = "") -> Iterator[Scan]:
    """Every access to a table below a node of a plan; those of a bitmap's indexes, too."""
    table = node.get("Relation Name", table)
    if "Scan" in node["Node Type"] and (table or "Index Name" in node):
        removed = node.get("Rows Removed by Filter", 0) * node.get("Actual Loops", 1)
        yield Scan(node["Node Type"], table, node.get("Index Name"), "Index Cond" in node, int(removed))
    for below in node.get("Plans", []):
        yield from scans_of(below, table)


def pages_of(top: dict[str, Any]) -> int:
    """The pages that were looked at; what is written beside the answer is not in the answer's own count."""
    answered = {node["CTE Name"] for node in nodes_of(top) if "CTE Name" in node}
    beside = [
        below
        for below in top.get("Plans", [])
        if below["Node Type"] == "ModifyTable" and below.get("Subplan Name", "").removeprefix("CTE ") not in answered
    ]
    return sum(int(node["Shared Hit Blocks"] + node["Shared Read Blocks"]) for node in (top, *beside))


def nodes_of(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A node of a plan, and all below it."""
    yield node
    for below in node.get("Plans", []):
        yield from nodes_of(below)


@contextlib.asynccontextmanager
async def telling() -> AsyncIterator[tuple[PostgresStore, Told, Any]]:
    """A store that tells its plans, open, and a connection beside it; nobody but us analyses its tables."""
    url = fresh_url()
    schema = url.rpartition("=")[2]
    store = PostgresStore("&".join([url, *(f"{name}={value}" for name, value in TOLD.items())]), SystemRuntime())
    told = Told({name: one.sql for name, one in store._q.statements.items()})
    connect = asyncpg.connect

    async def listening(*given: Any, **options: Any) -> Any:
        connection = await connect(*given, **options)
        connection.add_log_listener(told.hear)
        return connection

    plain = await connect(dsn())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncpg, "connect", listening)
        await store.migrate()
        for table in ("runs", "inputs", "names", "journal", "mailbox", "workers"):
            await plain.execute(f"ALTER TABLE {schema}.{table} SET (autovacuum_enabled = off)")
        await store.open()
        try:
            yield store, told, plain
        finally:
            await store.close()
            await plain.close()
