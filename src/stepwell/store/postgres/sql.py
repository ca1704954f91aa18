"""The named queries of `queries.sql`, for one schema and one clock; and the form of what they are given."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell.store.migrate import queries_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
"""The store's instant, in microseconds since 1970; `now()` would stand still while a statement waits for a lock."""
TURN = "(SELECT nextval('stepwell.turns') - 4611686018427387904)"
"""The instant of what is due at once: a number below zero, in the order of statements, so that no clock decides."""
_ENTRY = """j.seq, coalesce((SELECT name FROM stepwell.names WHERE number = j.node), '') AS node, j.item, j.phase, j.n,
    coalesce(j.kind, 'step'), coalesce(j.attempt, 1), coalesce(j.status, 'completed'), {payload}, j.error, j.retry_at,
    j.started_at, j.finished_at, coalesce((SELECT name FROM stepwell.names WHERE number = j.worker), ''), j.name"""
"""A journal row `j` in words, in the order of `JournalRow` behind its `ref`."""
_FRAGMENTS = {
    "{journal.entry}": _ENTRY.replace("{payload}", "j.value, j.detail"),
    "{journal.told}": _ENTRY.replace("{payload}", "NULL, NULL"),
}
_QUERIES = queries_of(Path(__file__).parent, _FRAGMENTS)
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def queries(schema: str, now: str) -> dict[str, str]:
    """The queries over the tables of a schema, with that expression for the instant."""
    return {
        name: in_schema(sql.replace("{now}", now).replace("{turn}", TURN), schema) for name, sql in _QUERIES.items()
    }


def in_schema(sql: str, schema: str) -> str:
    """The statements, written for the schema `stepwell`, for another one."""
    return sql.replace("stepwell.", f'"{schema}".')


def is_id(run_id: str) -> bool:
    """Whether a run can have this id at all; the tables hold UUIDs."""
    return _ID.fullmatch(run_id) is not None


def is_text(value: str | None) -> bool:
    """Whether the database can hold, and so find, this text."""
    return value is None or ("\0" not in value and value.encode("utf-8", "replace").decode() == value)


def columns(rows: Sequence[tuple[object, ...]], width: int) -> list[Sequence[object]]:
    """Rows as the arrays that `unnest` takes, one for each of so many columns."""
    return list(zip(*rows, strict=True)) if rows else [()] * width


def pairs(records: Iterable[Iterable[Any]]) -> dict[str, Any]:
    """Records of two columns as a mapping from the one to the other."""
    return {key: value for key, value in records}  # noqa: C416  a record is no tuple to the type checker
