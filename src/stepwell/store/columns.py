"""The columns that several statements share, each declared once; `queries` name them as `{journal.columns}` and so on.

A new column of the journal is a field of `JournalRow`, a line of `JOURNAL` here, and a column of the tables.
"""

from __future__ import annotations

from operator import itemgetter
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NamedTuple

from stepwell.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepwell.core.journal import JournalRow
    from stepwell.store.codec import Codec


class Column(NamedTuple):
    """A column of the journal: its type on PostgreSQL, and what nearly every row has in it, `...` for nothing.

    What is usual is stored as NULL, so that it is neither bound nor kept; in the columns of the row's key, of which a
    unique index must tell NULLs apart, it is stored as it is. `is_name`: the number of a name is stored. `is_payload`:
    it may be large, and is not read where only words are shown.
    """

    name: str
    type: str
    usual: Any = ...
    in_key: bool = False
    is_name: bool = False
    is_payload: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether a value is stored as it is."""
        return not (self.is_name or self.is_usually_null or self.name == "error")

    @property
    def is_usually_null(self) -> bool:
        """Whether NULL stands for another value."""
        return not self.in_key and self.usual is not None and not isinstance(self.usual, EllipsisType)


JOURNAL = (
    Column("seq", "integer"),
    Column("node", "integer", in_key=True, is_name=True),
    Column("item", "text", "", in_key=True),
    Column("phase", "text", "do", in_key=True),
    Column("n", "integer", 0, in_key=True),
    Column("kind", "text", "step"),
    Column("attempt", "integer", 1),
    Column("status", "text", "completed"),
    Column("value", "bytea", is_payload=True),
    Column("detail", "bytea", None, is_payload=True),
    Column("error", "bytea", None),
    Column("retry_at", "bigint", None),
    Column("started_at", "bigint"),
    Column("finished_at", "bigint"),
    Column("worker", "integer", is_name=True),
    Column("name", "text", "", in_key=True),
)
"""The columns of a journal row behind the store's own name of its run, in the order of `JournalRow`."""
JOURNAL_NAMES = ", ".join(column.name for column in JOURNAL)
UNUSUAL = tuple(column for column in JOURNAL if isinstance(column.usual, EllipsisType))
"""Those that every row has a value of its own in."""
_WITH_USUAL = [at for at, column in enumerate(JOURNAL, 1) if not isinstance(column.usual, EllipsisType)]
_usual_part: Callable[[JournalRow], tuple[Any, ...]] = itemgetter(*_WITH_USUAL)
_USUAL = tuple(JOURNAL[at - 1].usual for at in _WITH_USUAL)
LEASE = (
    *("token", "seq", "messages", "crashes", "lane", "position", "status", "wake_at", "parked_at"),
    *("parent_id", "parent_node", "cancel_requested_at"),
)
"""What a claim tells of a run, between its names and its input, in the order of `Lease`; the last is behind it."""
_IDS = frozenset({"id", "parent_id"})


_OWN = [at for at, column in enumerate(JOURNAL, 1) if column in UNUSUAL and column.name != "worker"]
_own_part: Callable[[JournalRow], tuple[Any, ...]] = itemgetter(0, *_OWN)
_NODE_OF_OWN = 1 + next(at for at, place in enumerate(_OWN) if JOURNAL[place - 1].name == "node")


def own_values(row: JournalRow, numbers: Mapping[str, int]) -> list[Any]:
    """What a usual row alone has, as it is stored: the columns `UNUSUAL` behind the name of its run, but the worker."""
    values = list(_own_part(row))
    values[_NODE_OF_OWN] = numbers[values[_NODE_OF_OWN]]
    return values


def all_values(row: JournalRow, numbers: Mapping[str, int], codec: Codec) -> list[Any]:
    """All columns of a row as they are stored, behind the name of its run."""
    return [row[0], *(stored(column, value, numbers, codec) for column, value in zip(JOURNAL, row[1:], strict=True))]


def stored(column: Column, value: Any, numbers: Mapping[str, int], codec: Codec) -> Any:
    """A value of that column as it is stored."""
    if column.is_name:
        return numbers[value]
    if column.is_usually_null and value == column.usual:
        return None
    return codec.encode_failure(value) if isinstance(value, Failure) else value


def is_usual(row: JournalRow) -> bool:
    """Whether a row has what is usual in every column that has something usual: a step, completed at once."""
    return _usual_part(row) == _USUAL


def entry(prefix: str, *, with_payload: bool) -> str:
    """A journal row `j` in words, in the order of `JournalRow`; `prefix` is that of the tables' names."""
    return ", ".join(_in_words(column, prefix, with_payload=with_payload) for column in JOURNAL)


def _in_words(column: Column, prefix: str, *, with_payload: bool) -> str:
    if column.is_payload and not with_payload:
        return "NULL"
    if column.is_name:
        named = f"(SELECT named.name FROM {prefix}names AS named WHERE named.number = j.{column.name})"  # noqa: S608  no user's text
        return f"coalesce({named}, '') AS {column.name}"
    if column.is_usually_null:
        return f"coalesce(j.{column.name}, {column.usual!r}) AS {column.name}"
    return f"j.{column.name}"


def lease_of(table: str, as_text: str = "") -> str:
    """The columns of a lease, of that table in the statement; `as_text` makes an id a text."""
    return ", ".join(f"{table}.{name}{as_text if name in _IDS else ''}" for name in LEASE)


def shown(as_text: str, value: str, outline: str = "d.outline") -> str:
    """A run `r` with its definition `d` as the edges read it, in the order of `RunRow`."""
    return (
        f"r.id{as_text}, r.key, r.workflow, r.status, r.position, r.awaiting,"
        f" CASE WHEN r.worker IS NULL THEN r.wake_at END, r.parent_id{as_text}, r.created_at, r.updated_at,"
        f" r.finished_at, {outline}, {value}, r.messages, r.crashes, r.worker, r.due_at, r.lane, d.queue,"
        " d.fingerprint, r.damaged, r.cancel_requested_at"
    )


NEW_RUN = (
    "id, lane, workflow, key, status, position, token, seq, messages, crashes, due_at, wake_at, parent_id, parent_node,"
    " created_at, updated_at"
)
"""The columns of a run that was just started."""
