"""Models of a store's runs and journal, read with queries of your own and written by stepwell alone.

They are unmanaged: no migration creates their tables, which stepwell does itself. On SQLite these are `stepwell_runs`
and the view `stepwell_entries`, on PostgreSQL `runs` and `entries` in the schema `stepwell`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from django.db import connections, models

from stepwell.core.journal import iteration_of
from stepwell.errors import DurableError, Failure
from stepwell.ext.django.configuration import database, options
from stepwell.ext.lifecycle import available_actions, checked_statuses, is_possible
from stepwell.reading.records import RunStatus
from stepwell.store.codec import PLAIN
from stepwell.workflow.durations import FIRST_MOMENT, LAST_MOMENT, instant, moment

if TYPE_CHECKING:
    from datetime import datetime

    from stepwell.ext.django.untyped import Untyped as Field
    from stepwell.ext.django.untyped import Untyped as Model
    from stepwell.ext.django.untyped import Untyped as QuerySet
    from stepwell.ext.django.untyped import Untyped as TextField
else:
    Field, Model, QuerySet, TextField = models.Field, models.Model, models.QuerySet, models.TextField

_IS_POSTGRES = connections[database()].vendor == "postgresql"


def _table(name: str) -> str:
    return f'"{options().get("SCHEMA", "stepwell")}"."{name}"' if _IS_POSTGRES else f"stepwell_{name}"


class RunIdField(TextField):
    """A run's id, as a string: text on SQLite, a uuid on PostgreSQL."""

    def from_db_value(self, value: Any, *_: object) -> str | None:
        """The id as a string."""
        return None if value is None else str(value)


class InstantField(Field):
    """An aware datetime, stored as microseconds since 1970; outside the calendar, the end that is nearest."""

    def from_db_value(self, value: int | None, *_: object) -> datetime | None:
        """The instant as an aware datetime in UTC."""
        try:
            return None if value is None else moment(value)
        except OverflowError:
            return FIRST_MOMENT if (value or 0) < 0 else LAST_MOMENT

    def get_prep_value(self, value: datetime | None) -> int | None:
        """The instant as it is stored; raises ValueError for a naive datetime."""
        return None if value is None else instant(value, f"{self.name}")


class ValueField(Field):
    """A stored value as plain JSON; PayloadError for bytes that are none."""

    def from_db_value(self, value: Any, *_: object) -> Any:
        """The value, decoded."""
        return None if value is None else PLAIN.decode(bytes(value))


class FailureField(Field):
    """The `Failure` of an entry."""

    def from_db_value(self, value: Any, *_: object) -> Failure | None:
        """The failure, decoded."""
        return None if value is None else PLAIN.decode_failure(bytes(value), "")


def _refuse(*_: object, **__: object) -> NoReturn:
    raise DurableError("Runs and entries are read-only here: start, signal, resume and cancel runs with runs().")


class ReadOnlyQuerySet(QuerySet):
    """Queries that change nothing: each method that would write raises DurableError."""

    if not TYPE_CHECKING:
        create = get_or_create = update_or_create = bulk_create = bulk_update = update = delete = _refuse
        acreate = aget_or_create = aupdate_or_create = abulk_create = abulk_update = aupdate = adelete = _refuse
        _raw_delete = _update = _insert = _refuse

    def in_status(self, *statuses: str) -> ReadOnlyQuerySet:
        """Those that have one of these statuses; raises DefinitionError for an unknown one."""
        found: ReadOnlyQuerySet = self.filter(status__in=checked_statuses(statuses))
        return found


class ReadOnlyModel(Model):
    """A row that stepwell alone writes."""

    if not TYPE_CHECKING:
        save = asave = delete = adelete = save_base = _refuse

    class Meta:
        """No table of its own."""

        abstract: bool = True


class WorkflowRun(ReadOnlyModel):
    """A run, with the fields of `RunSnapshot` that its row has; read-only."""

    run_id: Any = RunIdField(primary_key=True, db_column="id")
    workflow_name: Any = models.TextField(db_column="workflow")
    key: Any = models.TextField(null=True)
    status: Any = models.TextField()
    current_step: Any = models.IntegerField(db_column="position")
    awaiting_signal: Any = models.TextField(null=True, db_column="awaiting")
    worker: Any = models.TextField(null=True)
    parent: Any = models.ForeignKey(
        "self", models.DO_NOTHING, null=True, db_column="parent_id", related_name="children", db_constraint=False
    )
    parent_node: Any = models.TextField(null=True)
    damaged: Any = models.TextField(null=True)
    crashes: Any = models.IntegerField()
    wakes: Any = InstantField(null=True, db_column="wake_at")
    created_at: Any = InstantField()
    updated_at: Any = InstantField()
    finished_at: Any = InstantField(null=True)
    objects: Any = models.Manager.from_queryset(ReadOnlyQuerySet)()

    class Meta:
        """The table of the store, newest run first."""

        managed: bool = False
        db_table: str = _table("runs")
        ordering: ClassVar[list[str]] = ["-run_id"]
        verbose_name: str = "run"
        default_permissions: ClassVar[list[str]] = ["view"]
        permissions: ClassVar[list[tuple[str, str]]] = [
            ("cancel_workflowrun", "Can cancel runs"),
            ("resume_workflowrun", "Can resume runs"),
        ]

    def __str__(self) -> str:
        return f"{self.workflow_name} {self.run_id}"

    @property
    def wake_at(self) -> datetime | None:
        """When it will move by itself, or None. The field `wakes` keeps the last time while a worker holds the run."""
        found: datetime | None = self.wakes if self.worker is None else None
        return found

    @property
    def input(self) -> Any:
        """The input, as plain JSON; read from the store each time."""
        found, on = ("inputs.run_id", "runs.id") if _IS_POSTGRES else ("inputs.ref", "runs.ref")
        tables = f"{_table('inputs')} AS inputs JOIN {_table('runs')} AS runs ON {found} = {on}"
        with connections[self._state.db or database()].cursor() as cursor:
            cursor.execute(f"SELECT inputs.value FROM {tables} WHERE runs.id = %s", [self.run_id])  # noqa: S608  names of ours
            row = cursor.fetchone()
        return None if row is None else PLAIN.decode(bytes(row[0]))

    def can(self, action: str) -> bool:
        """Whether `cancel` or `resume` is possible in the status that was loaded; DefinitionError for another name."""
        return is_possible(action, self.status, self.awaiting_signal)

    def available_transitions(self) -> tuple[str, ...]:
        """The actions that are possible in the status that was loaded."""
        return available_actions(self.status, self.awaiting_signal)

    @property
    def has_ended(self) -> bool:
        """Whether it is completed, failed or canceled."""
        return self.status in {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELED}


class JournalEntry(ReadOnlyModel):
    """An entry of a run's journal, as the view `entries` has it; read-only. Values are plain JSON."""

    pk: Any = models.CompositePrimaryKey("run_id", "seq")
    run: Any = models.ForeignKey(
        WorkflowRun, models.DO_NOTHING, db_column="run_id", related_name="entries", db_constraint=False
    )
    seq: Any = models.IntegerField()
    node: Any = models.TextField()
    item: Any = models.TextField()
    phase: Any = models.TextField()
    name: Any = models.TextField()
    n: Any = models.IntegerField()
    kind: Any = models.TextField()
    attempt: Any = models.IntegerField()
    status: Any = models.TextField()
    result: Any = ValueField(null=True, db_column="value")
    error: Any = FailureField(null=True)
    retry_at: Any = InstantField(null=True)
    started_at: Any = InstantField()
    finished_at: Any = InstantField()
    worker: Any = models.TextField()
    objects: Any = models.Manager.from_queryset(ReadOnlyQuerySet)()

    class Meta:
        """The view of the store, in the order in which entries were written."""

        managed: bool = False
        db_table: str = _table("entries")
        ordering: ClassVar[list[str]] = ["run_id", "seq"]
        verbose_name_plural: str = "journal entries"
        default_permissions: ClassVar[list[str]] = ["view"]

    def __str__(self) -> str:
        return f"{self.seq} {self.node} {self.status}"

    @property
    def iteration(self) -> int | None:
        """The iteration of a loop that the entry is of, from 1; else None."""
        return iteration_of(self.item)
