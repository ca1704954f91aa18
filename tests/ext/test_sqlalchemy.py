"""Tests of the models of SQLAlchemy: on both databases, in sync and async sessions, read-only, apart from Alembic."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, aliased, joinedload, selectinload

from stepwell import Context, DefinitionError, Durable, DurableError, RunStatus, Workflow, durable
from stepwell.core.statuses import ENDED, TRANSITIONS
from stepwell.ext.lifecycle import available_actions
from stepwell.ext.sqlalchemy import JournalEntry, TransitionError, WorkflowRun, include_object
from tests.postgres import fresh_url
from tests.rival import own_database
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine

SAME = (
    *("run_id", "key", "workflow_name", "status", "current_step", "awaiting_signal", "wake_at", "input"),
    *("parent_run_id", "created_at", "updated_at", "finished_at", "damaged"),
)
"""The fields of a snapshot that a model has, too."""


@dataclass(frozen=True)
class Place:
    """A store, by the URLs of stepwell and of SQLAlchemy's drivers, and the schema of its tables."""

    url: str
    plain: str
    with_async: str
    schema: str = "stepwell"

    def engine(self) -> Engine:
        """An engine that finds the tables."""
        engine = sa.create_engine(self.plain)
        return engine.execution_options(schema_translate_map={"stepwell": self.schema})


def place_of(url: str) -> Place:
    """A store on a file, or in a schema of the tests' server."""
    if url.startswith("sqlite:"):
        return Place(url, url, url.replace("sqlite:", "sqlite+aiosqlite:"))
    dsn, _, schema = url.partition("?schema=")
    return Place(
        url,
        dsn.replace("postgresql:", "postgresql+psycopg:"),
        dsn.replace("postgresql:", "postgresql+asyncpg:"),
        schema or "stepwell",
    )


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty store of each kind."""
    return place_of(fresh_url() if request.param == "postgres" else f"sqlite:///{tmp_path / 'store.db'}")


def flows() -> list[Workflow]:
    """A parent with a loop, a child and a wait, and one that fails at its second step."""

    def fail(ctx: Context) -> None:
        raise ValueError("declined")

    def count(value: Any, ctx: Context) -> int:
        return ctx.iteration or 0

    parent = durable("parent").loop("poll", count, max_iterations=2)
    parent.child_workflow("invoice", "leaf", map_input=lambda ctx: 5).wait_for_signal("ask", "go")
    leaf = durable("leaf").step("leaf", lambda ctx: ctx.input)
    bad = durable("bad").step("reserve", lambda ctx: None, compensate=lambda ctx: None)
    return [parent, leaf, bad.step("charge", fail, max_retries=0)]


@contextlib.asynccontextmanager
async def shop_with_runs(place: Place) -> AsyncIterator[tuple[Durable, str, str]]:
    """An app whose run `parent` waits for its signal, and whose run `bad` has failed; the ids of both."""
    async with Durable(place.url, flows()) as shop:
        async with shop.worker():
            parent = await shop.start("parent", {"id": 7}, key="order-7")
            bad = await shop.start("bad")
            for run_id, awaited in ((parent.run_id, "suspended"), (bad.run_id, "failed")):
                await eventually(lambda: _has(shop, run_id, awaited))  # noqa: B023  awaited before the next round
        yield shop, parent.run_id, bad.run_id


async def _has(shop: Durable, run_id: str, status: str) -> bool:
    run = await shop.status(run_id)
    return run.status == status and (status != "suspended" or run.awaiting_signal is not None)


@contextlib.contextmanager
def session_on(place: Place) -> Iterator[Session]:
    """A sync session, whose engine is disposed of."""
    engine = place.engine()
    with Session(engine) as session:
        yield session
    engine.dispose()


async def test_a_run_and_its_journal_are_read_as_the_app_reads_them(place: Place) -> None:
    async with shop_with_runs(place) as (shop, parent, bad):
        told, failed = await shop.status(parent), await shop.journal(bad)
        with session_on(place) as session:
            run = session.get_one(WorkflowRun, parent)
            assert {name: getattr(run, name) for name in SAME} == {name: getattr(told, name) for name in SAME}
            assert isinstance(run.status, RunStatus)
            assert [(entry.seq, entry.node, entry.iteration, entry.result) for entry in run.entries] == [
                (1, "poll", 1, 1),
                (2, "poll", 2, 2),
                (3, "invoice", None, {"leaf": 5}),
            ]
            (child,) = run.children
            assert (child.parent, child.parent_node, child.status) == (run, "invoice", RunStatus.COMPLETED)
            assert run.entries[0].run is run
            entries = session.get_one(WorkflowRun, bad).entries
            shown = [(one.node, one.kind, one.status, one.result, one.error, one.worker) for one in entries]
            assert shown == [(one.node, one.kind, one.status, one.result, one.error, one.worker) for one in failed]
            assert [(one.started_at, one.finished_at) for one in entries] == [
                (one.started_at, one.finished_at) for one in failed
            ]


async def test_queries_filter_join_count_and_load_ahead(place: Place) -> None:
    async with shop_with_runs(place) as (_, parent, bad):
        with session_on(place) as session:
            ended = sa.select(WorkflowRun.run_id).where(WorkflowRun.in_status("failed", "canceled"))
            assert session.scalars(ended).all() == [bad]
            counted = sa.select(WorkflowRun.workflow_name, sa.func.count()).group_by(WorkflowRun.workflow_name)
            assert sorted(map(tuple, session.execute(counted))) == [("bad", 1), ("leaf", 1), ("parent", 1)]
            child = aliased(WorkflowRun)
            joined = sa.select(WorkflowRun.key, child.workflow_name).join(WorkflowRun.children.of_type(child))
            assert [*map(tuple, session.execute(joined))] == [("order-7", "leaf")]
            since = datetime.now(UTC) - timedelta(hours=1)
            recent = sa.select(sa.func.count()).where(WorkflowRun.created_at > since)
            assert session.scalar(recent) == 3
            for load in (joinedload, selectinload):
                query = sa.select(WorkflowRun).options(load(WorkflowRun.entries), load(WorkflowRun.parent))
                found = session.scalars(query.where(WorkflowRun.run_id == parent)).unique().one()
                assert len(found.entries) == 3
                session.expire_all()
            kinds = sa.select(JournalEntry.kind).where(JournalEntry.error.is_not(None))
            assert session.scalars(kinds).all() == ["step"]


async def test_a_run_is_found_by_the_indexes_of_its_table(tmp_path: Path) -> None:
    place = place_of(f"sqlite:///{tmp_path / 'store.db'}")
    await Durable(place.url).ensure_tables()
    engine = place.engine()
    by_id = sa.select(WorkflowRun).options(joinedload(WorkflowRun.parent)).where(WorkflowRun.run_id == "x")
    by_status = sa.select(WorkflowRun).where(WorkflowRun.in_status("failed"), WorkflowRun.run_id < "x")
    entries = sa.select(JournalEntry).where(JournalEntry.run_id.in_(["x", "y"]))
    for query in (by_id, by_status, entries):
        with engine.connect() as connection:
            compiled = query.compile(engine, compile_kwargs={"literal_binds": True})
            plan = [row.detail for row in connection.execute(sa.text(f"EXPLAIN QUERY PLAN {compiled}"))]
        assert [line for line in plan if line.startswith("SCAN")] == [], plan
    engine.dispose()


async def test_an_async_session_reads_the_same(place: Place) -> None:
    async with shop_with_runs(place) as (shop, parent, _):
        engine = create_async_engine(place.with_async)
        engine = engine.execution_options(schema_translate_map={"stepwell": place.schema})
        async with AsyncSession(engine) as session:
            run = await session.get_one(WorkflowRun, parent, options=[selectinload(WorkflowRun.entries)])
            assert [entry.node for entry in run.entries] == ["poll", "poll", "invoice"]
            assert [child.status for child in await run.awaitable_attrs.children] == ["completed"]
            assert await run.awaitable_attrs.input == {"id": 7}
            assert await run.transition("cancel", shop) is RunStatus.CANCELED
            assert run.can("cancel"), "the object is as it was loaded"
            await session.refresh(run)
            assert (run.status, run.available_transitions()) == ("canceled", ())
        await engine.dispose()


async def test_a_transition_is_done_if_the_stored_status_allows_it(place: Place) -> None:
    async with shop_with_runs(place) as (shop, parent, bad):
        with session_on(place) as session:
            waits, failed = session.get_one(WorkflowRun, parent), session.get_one(WorkflowRun, bad)
            assert waits.available_transitions() == ("cancel", "resume")
            assert (failed.can("cancel"), failed.can("resume"), failed.available_transitions()) == (False, False, ())
            with pytest.raises(TransitionError, match=r'is failed: "cancel" is not possible. Possible: none.$') as told:
                await failed.transition("cancel", shop)
            assert (told.value.code, told.value.run_id, told.value.status) == ("transition", bad, "failed")
            assert await waits.transition("resume", shop, {"by": "ada"}) == "running"
            with pytest.raises(TransitionError, match=r'is running: "resume" is not possible. Possible: cancel.$'):
                await waits.transition("resume", shop)
            for name in ("retry", "", "canceled"):
                with pytest.raises(DefinitionError, match="Known: cancel, resume"):
                    waits.can(name)
        async with shop.worker():
            assert (await shop.result(parent))["ask"] == {"by": "ada"}


async def test_a_run_that_ends_before_the_cancel_is_not_said_to_be_canceled(tmp_path: Path) -> None:
    place = place_of(f"sqlite:///{tmp_path / 'store.db'}")
    async with shop_with_runs(place) as (shop, parent, _):
        with session_on(place) as session:
            run = session.get_one(WorkflowRun, parent)
        cancel = shop.cancel

        async def late(run_id: str, *, compensate: bool = False) -> None:
            await shop.signal(run_id, "go")
            async with shop.worker():
                await shop.result(run_id)
            await cancel(run_id, compensate=compensate)

        shop.cancel = late  # type: ignore[method-assign]  # what happens between the look and the call
        with pytest.raises(TransitionError, match="is completed"):
            await run.transition("cancel", shop)


@pytest.mark.parametrize("status", TRANSITIONS)
def test_what_is_possible_is_what_the_table_of_statuses_says(status: str) -> None:
    """The verbs that others than the worker use are those of the actions; so a new one is seen here."""
    outside = {"cancel": "cancel", "deliver": "resume"}
    following = {verb for one in TRANSITIONS[status] for verb in one.by}  # type: ignore[index]  # a word of the table
    assert following <= {*outside, "claim", "commit"}
    assert set(available_actions(status, "go")) == {outside[verb] for verb in following & {*outside}}
    assert (available_actions(status, "go") == ()) == (status in ENDED)
    assert "resume" not in available_actions(status, None)
    assert available_actions("unheard-of", "go") == ()


@pytest.mark.parametrize("statuses", [(), ("faild",), ("failed", "ended")])
def test_an_unknown_status_is_refused(statuses: tuple[str, ...]) -> None:
    with pytest.raises(DefinitionError, match=r"one of pending, running, .*, got (none|'faild'|'ended')\.$"):
        WorkflowRun.in_status(*statuses)


async def test_the_models_are_read_only(place: Place) -> None:
    async with shop_with_runs(place) as (_, parent, _):
        for model in (WorkflowRun, JournalEntry):
            with pytest.raises(DurableError, match=f"{model.__name__} is read-only: start, "):
                model(run_id="x")
            for statement in (sa.update, sa.delete, sa.insert):
                with pytest.raises(ArgumentError, match="subject table"):
                    statement(model)
        with session_on(place) as session:
            run = session.get_one(WorkflowRun, parent)
            run.status = "completed"
            with pytest.raises(DurableError, match="WorkflowRun is read-only"):
                session.flush()
            session.rollback()
            session.delete(session.get_one(WorkflowRun, parent))
            with pytest.raises(DurableError, match="WorkflowRun is read-only"):
                session.flush()
            session.rollback()
            assert session.get_one(WorkflowRun, parent).status == "suspended"


async def test_what_is_out_of_the_calendar_or_unknown_does_not_prevent_a_page(tmp_path: Path) -> None:
    place = place_of(f"sqlite:///{tmp_path / 'store.db'}")
    async with shop_with_runs(place):
        with session_on(place) as session:
            edit = f"UPDATE stepwell_runs SET created_at = {2**62}, updated_at = {-(2**62)}, status = 'odd'"
            session.execute(sa.text(edit))
            run = session.scalars(sa.select(WorkflowRun)).first()
            assert run is not None
            assert (run.created_at.year, run.updated_at.year, run.status) == (9999, 1, "odd")
            assert (run.available_transitions(), run.can("cancel")) == ((), False)


def differences(engine: Engine, *, schemas: bool) -> list[str]:
    """What Alembic would change so that the database has the tables of an application, and nothing else."""
    mine = sa.MetaData()
    sa.Table("orders", mine, sa.Column("id", sa.Integer, primary_key=True), sa.Column("run_id", sa.Text))
    with engine.connect() as connection:
        options = {"include_object": include_object, "include_schemas": schemas, "target_metadata": mine}
        found = compare_metadata(MigrationContext.configure(connection, opts=options), mine)
    return [f"{change[0]} {change[1].name}" for change in found]


@contextlib.contextmanager
def alembic_place(kind: str, folder: Path) -> Iterator[Place]:
    """A database of its own, since Alembic looks at all of it."""
    if kind == "sqlite":
        yield place_of(f"sqlite:///{folder / 'store.db'}")
    else:
        with own_database() as url:
            yield place_of(url)


@pytest.mark.parametrize("schemas", [False, True], ids=["one schema", "all schemas"])
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def test_alembics_autogenerate_leaves_our_tables_alone(kind: str, schemas: bool, tmp_path: Path) -> None:  # noqa: FBT001  a parameter of the test
    with alembic_place(kind, tmp_path) as place:
        asyncio.run(Durable(place.url).ensure_tables())
        engine = sa.create_engine(place.plain)
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE legacy (id integer)"))
        assert sorted(differences(engine, schemas=schemas)) == ["add_table orders", "remove_table legacy"]
        engine.dispose()


def test_a_schema_of_another_name_is_left_alone_by_its_name() -> None:
    table = sa.Table("runs", sa.MetaData(schema="stepwell"))
    other = sa.Table("runs", sa.MetaData(schema="shop"))
    assert not include_object(table, "runs", "table", True, None)  # noqa: FBT003  as Alembic calls it
    assert include_object(other, "runs", "table", True, None)  # noqa: FBT003  as above


def test_without_the_extra_one_line_names_it() -> None:
    program = "import sys; sys.modules['sqlalchemy'] = None; import stepwell.ext.sqlalchemy"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: stepwell.ext.sqlalchemy needs sqlalchemy: pip install 'stepwell[sqlalchemy]'."
    )
