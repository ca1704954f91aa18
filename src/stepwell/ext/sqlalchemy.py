"""Models of SQLAlchemy over a store's runs and journal: read with queries of your own, written by stepwell alone.

The same classes serve both databases. A store on SQLite has the tables `stepwell_runs` and so on, one on PostgreSQL
those of the schema `stepwell`; which names are rendered is decided when a statement is compiled for its engine. Each
model is mapped to a subquery of its table, so that no INSERT, UPDATE or DELETE of it can be built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from stepwell.ext import missing
from stepwell.ext.lifecycle import TransitionError, available_actions, checked_statuses, is_possible, perform

try:
    from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, Table, Text, Uuid, case, event, select
    from sqlalchemy.ext.asyncio import AsyncAttrs
    from sqlalchemy.ext.compiler import compiles
    from sqlalchemy.orm import DeclarativeBase, Mapped, Mapper, deferred, foreign, relationship, remote
    from sqlalchemy.sql.expression import ColumnElement, FromClause
    from sqlalchemy.types import TypeDecorator, TypeEngine
except ModuleNotFoundError as _error:
    raise missing("sqlalchemy", _error) from None

from stepwell.core.journal import iteration_of
from stepwell.errors import DurableError, Failure
from stepwell.reading.records import RunStatus
from stepwell.store.codec import PLAIN
from stepwell.workflow.durations import FIRST_MOMENT, LAST_MOMENT, instant, moment

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Dialect
    from sqlalchemy.sql.compiler import SQLCompiler

    from stepwell.app import Durable

__all__ = ["Base", "JournalEntry", "TransitionError", "WorkflowRun", "include_object"]

SCHEMA = "stepwell"
"""The schema on PostgreSQL; an engine's `schema_translate_map` may name another one."""
PREFIX = "stepwell_"
"""What the names of tables, indexes and views begin with on SQLite."""


class _Id(TypeDecorator[str]):
    """A run's id, as a string: text on SQLite, a uuid on PostgreSQL."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Uuid(as_uuid=False) if dialect.name == "postgresql" else Text())


class _Instant(TypeDecorator["datetime"]):
    """An aware datetime, stored as microseconds since 1970; outside the calendar, the end that is nearest."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002  SQLAlchemy's signature
        return None if value is None else instant(value, "An instant of a run")

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  as above
        try:
            return None if value is None else moment(value)
        except OverflowError:
            return FIRST_MOMENT if (value or 0) < 0 else LAST_MOMENT


class _Status(TypeDecorator[str]):
    """A `RunStatus`, or the stored word where this version does not know it."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002  SQLAlchemy's signature
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002  as above
        return RunStatus(value) if value in set(RunStatus) else value


class _Value(TypeDecorator[Any]):
    """A stored value as plain JSON; PayloadError for bytes that are none."""

    impl = LargeBinary
    cache_ok = True

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> Any:  # noqa: ARG002  SQLAlchemy's signature
        return None if value is None else PLAIN.decode(bytes(value))


class _Failure(TypeDecorator[Failure]):
    """The `Failure` of an entry."""

    impl = LargeBinary
    cache_ok = True

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> Failure | None:  # noqa: ARG002  as above
        return None if value is None else PLAIN.decode_failure(bytes(value), "")


class _StoreTable(Table):
    """A table or view of the store: `stepwell.NAME` on PostgreSQL, `stepwell_NAME` on SQLite."""

    inherit_cache = True


@compiles(_StoreTable, "sqlite")
def _name_on_sqlite(element: _StoreTable, compiler: SQLCompiler, **_: Any) -> str:
    return compiler.preparer.quote(f"{PREFIX}{element.name}")


class _Input(ColumnElement[Any]):
    """The input of the run `r`, which each store has in a table of its own, by its own name of the run."""

    inherit_cache = True
    type = _Value()


@compiles(_Input, "sqlite")
def _input_on_sqlite(_element: _Input, _compiler: SQLCompiler, **_: Any) -> str:
    return f"(SELECT i.value FROM {PREFIX}inputs AS i WHERE i.ref = r.ref)"  # noqa: S608  no user's text


@compiles(_Input, "postgresql")
def _input_on_postgres(_element: _Input, compiler: SQLCompiler, **_: Any) -> str:
    inputs = compiler.process(_INPUTS, asfrom=True)
    return f"(SELECT i.value FROM {inputs} AS i WHERE i.run_id = r.id)"  # noqa: S608  no user's text


class Base(AsyncAttrs, DeclarativeBase):
    """The base of the models, with a metadata of its own; `awaitable_attrs` loads relationships in async sessions."""

    metadata: ClassVar[MetaData] = MetaData(schema=SCHEMA)

    def __init__(self, **_: Any) -> None:
        raise DurableError(_read_only(type(self).__name__))


def _columns(*names: str, type: type[TypeEngine[Any]] | TypeEngine[Any] = Text) -> list[Column[Any]]:
    return [Column(name, type) for name in names]


_INPUTS = _StoreTable("inputs", Base.metadata)
_RUNS = _StoreTable(
    "runs",
    Base.metadata,
    *_columns("id", "parent_id", type=_Id),
    *_columns("workflow", "key", "worker", "awaiting", "parent_node", "damaged"),
    *_columns("status", type=_Status),
    *_columns("position", "seq", "crashes", type=Integer),
    *_columns("wake_at", "created_at", "updated_at", "finished_at", type=_Instant),
)
_ENTRIES = _StoreTable(
    "entries",
    Base.metadata,
    *_columns("run_id", type=_Id),
    *_columns("node", "item", "phase", "name", "kind", "status", "worker"),
    *_columns("seq", "n", "attempt", type=Integer),
    *_columns("value", type=_Value),
    *_columns("error", type=_Failure),
    *_columns("retry_at", "started_at", "finished_at", type=_Instant),
)
_r, _e = _RUNS.alias("r"), _ENTRIES.alias("e")
_run = select(
    _r.c.id.label("run_id"),
    _r.c.workflow.label("workflow_name"),
    _r.c.key,
    _r.c.status,
    _r.c.position.label("current_step"),
    _r.c.awaiting.label("awaiting_signal"),
    # A claim leaves the time in its row: of a run that a worker holds it is the one that has passed.
    case((_r.c.worker.is_(None), _r.c.wake_at)).label("wake_at"),
    _r.c.worker,
    _r.c.parent_id.label("parent_run_id"),
    _r.c.parent_node,
    _r.c.damaged,
    _r.c.crashes,
    _r.c.created_at,
    _r.c.updated_at,
    _r.c.finished_at,
    _Input().label("input"),
).subquery("run")
_entry = select(*(column.label("result" if column.name == "value" else column.name) for column in _e.c)).subquery(
    "entry"
)


class JournalEntry(Base):
    """An entry of a run's journal, as the view `entries` has it; read-only. Values are plain JSON."""

    __table__: ClassVar[FromClause] = _entry
    __mapper_args__: Any = {"primary_key": [_entry.c.run_id, _entry.c.seq]}  # noqa: RUF012  SQLAlchemy reads it from the class

    run_id: Mapped[str]
    seq: Mapped[int]
    node: Mapped[str]
    item: Mapped[str]
    phase: Mapped[str]
    name: Mapped[str]
    n: Mapped[int]
    kind: Mapped[str]
    attempt: Mapped[int]
    status: Mapped[str]
    result: Mapped[Any]
    error: Mapped[Failure | None]
    retry_at: Mapped[datetime | None]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime]
    worker: Mapped[str]
    run: Mapped[WorkflowRun] = relationship(
        "WorkflowRun",
        primaryjoin=lambda: foreign(JournalEntry.run_id) == remote(WorkflowRun.run_id),
        back_populates="entries",
        viewonly=True,
    )

    @property
    def iteration(self) -> int | None:
        """The iteration of a loop that the entry is of, from 1; else None."""
        return iteration_of(self.item)

    def __repr__(self) -> str:
        return f"<JournalEntry {self.seq} of {self.run_id}: {self.node} {self.status}>"


class WorkflowRun(Base):
    """A run, with the fields of `RunSnapshot` that its row has; read-only. `input` is loaded when it is read."""

    __table__: ClassVar[FromClause] = _run
    __mapper_args__: Any = {"primary_key": [_run.c.run_id]}  # noqa: RUF012  SQLAlchemy reads it from the class

    run_id: Mapped[str]
    workflow_name: Mapped[str]
    key: Mapped[str | None]
    status: Mapped[str]
    current_step: Mapped[int]
    awaiting_signal: Mapped[str | None]
    wake_at: Mapped[datetime | None]
    worker: Mapped[str | None]
    parent_run_id: Mapped[str | None]
    parent_node: Mapped[str | None]
    damaged: Mapped[str | None]
    crashes: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    input: Mapped[Any] = deferred(_run.c.input)
    entries: Mapped[list[JournalEntry]] = relationship(
        JournalEntry,
        primaryjoin=lambda: WorkflowRun.run_id == foreign(JournalEntry.run_id),
        order_by=lambda: JournalEntry.seq,
        back_populates="run",
        viewonly=True,
    )
    children: Mapped[list[WorkflowRun]] = relationship(
        "WorkflowRun",
        primaryjoin=lambda: WorkflowRun.run_id == foreign(remote(WorkflowRun.parent_run_id)),
        order_by=lambda: WorkflowRun.run_id,
        viewonly=True,
    )
    parent: Mapped[WorkflowRun | None] = relationship(
        "WorkflowRun",
        primaryjoin=lambda: foreign(WorkflowRun.parent_run_id) == remote(WorkflowRun.run_id),
        viewonly=True,
    )

    def __repr__(self) -> str:
        return f"<WorkflowRun {self.run_id}: {self.workflow_name} {self.status}>"

    @classmethod
    def in_status(cls, *statuses: str) -> ColumnElement[bool]:
        """The condition that a run has one of these statuses; raises DefinitionError for an unknown one."""
        return cls.status.in_(checked_statuses(statuses))

    def can(self, action: str) -> bool:
        """Whether `cancel` or `resume` is possible in the status that was loaded; DefinitionError for another name."""
        return is_possible(action, self.status, self.awaiting_signal)

    def available_transitions(self) -> tuple[str, ...]:
        """The actions that are possible in the status that was loaded."""
        return available_actions(self.status, self.awaiting_signal)

    async def transition(self, action: str, shop: Durable, data: Any = None) -> RunStatus:
        """Does the action through an entered app on the store, and returns the run's status after it.

        The status is looked at in the store, not in this object, which does not change: refresh it. `data` is what
        `resume` delivers to the signal that the run waits for. Raises TransitionError if it is not possible.
        """
        return await perform(action, self.run_id, shop, data)


def _read_only(model: str) -> str:
    return f"{model} is read-only: start, signal, resume and cancel runs with a Durable."


@event.listens_for(Base, "before_insert", propagate=True)
@event.listens_for(Base, "before_update", propagate=True)
@event.listens_for(Base, "before_delete", propagate=True)
def _refuse(mapper: Mapper[Any], _connection: object, _target: object) -> NoReturn:
    raise DurableError(_read_only(mapper.class_.__name__))


def include_object(
    object: Any,
    name: str | None,
    type_: Literal["schema", "table", "column", "index", "unique_constraint", "foreign_key_constraint"],
    reflected: bool,  # noqa: FBT001, ARG001  Alembic's signature
    compare_to: Any,  # noqa: ARG001  Alembic's signature
) -> bool:
    """Whether Alembic's autogenerate may touch an object: False for all that is of a store. For `context.configure`."""
    table = object if type_ == "table" else getattr(object, "table", None)
    if table is None:
        return name != SCHEMA
    return table.schema != SCHEMA and not (table.schema is None and table.name.startswith(PREFIX))
