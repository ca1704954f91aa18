"""The named queries of `queries/`, for one schema and one clock; and the form of what they are given.

A parameter has a name, `$worker`. `{b(id uuid, token integer)}` stands for rows that are given as arrays, one for each
column; with `+at` a last column numbers them from 1.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NamedTuple

from stepwell.store.columns import JOURNAL, JOURNAL_NAMES, NEW_RUN, Column, entry, lease_of, shown
from stepwell.store.migrate import queries_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
"""The store's instant, in microseconds since 1970; `now()` would stand still while a statement waits for a lock."""
TURN = "(SELECT nextval('stepwell.turns') - 4611686018427387904)"
"""The instant of what is due at once: a number below zero, in the order of statements, so that no clock decides."""
_FIRST = "CASE WHEN row_number() OVER (ORDER BY j.seq) = 1 THEN {} END"
_NUMBER = "(SELECT numbers FROM named)[{}]"


def _stored(column: Column) -> str:
    """What is inserted of a column of the rows `x`, where one that is empty has what is usual."""
    if column.name == "worker":
        return _NUMBER.format("coalesce(x.worker, 1)")
    if column.is_name:
        return _NUMBER.format(f"x.{column.name}")
    if column.in_key and not isinstance(column.usual, EllipsisType):
        return f"coalesce(x.{column.name}, {column.usual!r})"
    return f"x.{column.name}"


_FRAGMENTS = {
    "{journal.columns}": JOURNAL_NAMES,
    "{journal.given}": ", ".join(["at integer", *(f"{one.name} {one.type}" for one in JOURNAL)]),
    "{journal.values}": ", ".join(map(_stored, JOURNAL)),
    "{journal.entry}": entry("stepwell.", with_payload=True),
    "{journal.told}": entry("stepwell.", with_payload=False),
    "{named}": """named AS MATERIALIZED (
    SELECT array_agg((SELECT n.number FROM stepwell.names AS n WHERE n.name = given.name) ORDER BY given.at) AS numbers
    FROM unnest($names::text[]) WITH ORDINALITY AS given (name, at)
)""",
    "{r.lease}": lease_of("r"),
    "{l.lease}": lease_of("l", "::text"),
    "{new_run.given}": (
        "id uuid, lane integer, workflow text, key text, delay bigint, parent_id uuid, parent_node text, value bytea"
    ),
    "{new_run.columns}": NEW_RUN,
    "{new_run.values}": (
        "n.id, n.lane, n.workflow, n.key, 'pending', 0, 0, 0, 0, 0,"
        " CASE WHEN n.delay > 0 THEN clock.now + n.delay ELSE {turn} END,"
        " CASE WHEN n.delay > 0 THEN clock.now + n.delay END, n.parent_id, n.parent_node, clock.now, clock.now"
    ),
    "{run.whole}": shown("::text", "i.value"),
    "{run.listed}": shown("::text", "NULL::bytea"),
    # what may be large comes with the first row of the journal alone
    "{run.once}": shown("::text", _FIRST.format("i.value"), _FIRST.format("d.outline")),
    "{turn}": TURN,
}
_QUERIES = queries_of(Path(__file__).parent, _FRAGMENTS)
_ROWS = re.compile(r"\{(\w+)\(([^{}]*?)\)(?:\+(\w+))?\}")
_PARAMETER = re.compile(r"\$([a-z]\w*)(?:\.([0-9]+)(t)?)?")
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Parameter(NamedTuple):
    """A parameter of a statement: its name, or a column of the rows of that name."""

    name: str
    column: int | None
    is_literal: bool

    def value_in(self, given: Mapping[str, Any]) -> Any:
        """What the driver is given for it."""
        value = given[self.name]
        if self.column is None:
            return value
        return _literal(value[self.column]) if self.is_literal else value[self.column]


class Statement(NamedTuple):
    """A query as the server takes it, and what its parameters are."""

    sql: str
    parameters: tuple[Parameter, ...]

    def __call__(self, given: Mapping[str, Any]) -> tuple[Any, ...]:
        """The statement and its arguments, in the order in which the driver takes them."""
        return (self.sql, *[parameter.value_in(given) for parameter in self.parameters])


# Numbers go as the text of an array, which costs the driver 1.3 µs a step less than to encode each by itself, and the
# server nothing. For ids and values the server would lose what the driver gains (docs/decisions/0008).
_AS_TEXT = frozenset({"integer", "bigint"})


def _literal(numbers: Iterable[int | None]) -> str:
    return f"{{{','.join(map(str, numbers)).replace('None', 'NULL')}}}"


class Queries:
    """The queries over the tables of a schema, with that expression for the instant."""

    def __init__(self, schema: str, now: str) -> None:
        self.texts: dict[str, str] = {
            name: in_schema(sql.replace("{now}", now), schema) for name, sql in _QUERIES.items()
        }
        """As they are written."""
        self.statements: dict[str, Statement] = {name: compiled(text) for name, text in self.texts.items()}
        """As they are sent."""

    def __call__(self, name: str, /, **given: Any) -> tuple[Any, ...]:
        """A statement and its arguments, in the order in which the driver takes them."""
        return self.statements[name](given)


@cache
def compiled(text: str) -> Statement:
    """A query with numbers in the place of names."""
    numbers: dict[Parameter, int] = {}

    def rows(found: re.Match[str]) -> str:
        name, columns, place = found[1], [one.split() for one in found[2].split(",")], found[3]
        arrays = ", ".join(
            f"${name}.{at}{'t::text' if type_ in _AS_TEXT else ''}::{type_}[]" for at, (_, type_) in enumerate(columns)
        )
        named = ", ".join([*(column for column, _ in columns), *([place] if place else [])])
        return f"unnest({arrays}){' WITH ORDINALITY' if place else ''} AS {name} ({named})"

    def number(found: re.Match[str]) -> str:
        parameter = Parameter(found[1], None if found[2] is None else int(found[2]), found[3] is not None)
        return f"${numbers.setdefault(parameter, len(numbers) + 1)}"

    sql = _PARAMETER.sub(number, _ROWS.sub(rows, text))
    return Statement(sql, tuple(numbers))


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
    """Rows as the arrays that `unnest` takes, one for each of the columns."""
    return list(zip(*rows, strict=True)) if rows else [()] * width


def pairs(records: Iterable[Iterable[Any]]) -> dict[str, Any]:
    """Records of two columns as a mapping from the one to the other."""
    return {key: value for key, value in records}  # noqa: C416  a record is no tuple to the type checker
