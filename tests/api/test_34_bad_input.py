"""Bad input: each gives one clear error by name, and nothing that was stored is lost."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import (
    Context,
    Durable,
    DurableError,
    PayloadError,
    RunFailedError,
    RunNotFoundError,
    SchemaError,
    SchemaStatus,
    StoreUnavailableError,
    WorkflowNotRegisteredError,
    durable,
)
from tests.api import running_fixtures
from tests.api.running_fixtures import echo, file_url, names_in, one, undo
from tests.programs import full_disk
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

url = running_fixtures.url
ROOT = Path(__file__).resolve().parents[2]


class Opaque:
    """A value that is not JSON."""


async def failure_of(app: Durable, workflow: str, input: Any = None) -> RunFailedError:
    """The error of a new run of the workflow; it needs a worker."""
    started = await app.start(workflow, input)
    with pytest.raises(RunFailedError) as caught:
        await app.result(started.run_id, timeout=PATIENCE)
    return caught.value


async def test_an_unknown_workflow_is_named_and_stores_nothing(url: str) -> None:
    async with Durable(url, [durable("order").step("value", one)]) as app:
        for start in (app.start("ordr"), app.start_many("ordr", [1])):
            with pytest.raises(WorkflowNotRegisteredError, match=r"ordr.*order"):
                await start
        assert await app.list() == []


async def test_an_unknown_run_is_named_by_every_call_that_takes_one(url: str) -> None:
    unknown = "0197f0a0-0000-7000-8000-000000000000"
    async with Durable(url) as app:
        calls = [
            app.status(unknown),
            app.journal(unknown),
            app.cancel(unknown),
            app.result(unknown, timeout=1),
            app.resume(unknown, "go"),
            app.signal(unknown, "go"),
            app.resume(unknown, "go", key="k"),
            app.signal(unknown, "go", key="k"),
        ]
        for call in calls:
            with pytest.raises(RunNotFoundError, match=unknown):
                await call


async def test_an_unknown_branch_is_named_with_the_known_ones_and_what_came_before_is_undone(url: str) -> None:
    flow = (
        durable("flow")
        .step("first", one, compensate=undo)
        .route("ship", lambda ctx: "rail", {"air": one, "sea": one})
        .step("last", one)
    )
    async with Durable(url, [flow]) as app, app.worker():
        error = await failure_of(app, "flow")
    assert (error.error.node, error.error.type) == ("ship", "UnknownBranch")
    for name in ("rail", "air", "sea"):
        assert name in error.error.message
    assert list(error.compensated) == ["first"]


@pytest.mark.parametrize("answer", [None, 3, ["air"]], ids=repr)
async def test_a_resolver_that_gives_no_string_fails_its_route(url: str, answer: Any) -> None:
    flow = durable("flow").route("ship", lambda ctx: answer, {"air": one}, max_retries=0)
    async with Durable(url, [flow]) as app, app.worker():
        error = await failure_of(app, "flow")
    assert error.error.node == "ship"


def a_cycle() -> list[Any]:
    cycle: list[Any] = [1]
    cycle.append({"again": cycle})
    return cycle


def a_deep_value() -> list[Any]:
    deep: list[Any] = []
    for _ in range(200_000):
        deep = [deep]
    return deep


NOT_JSON: dict[str, Callable[[], Any]] = {
    "object": lambda: {"it": Opaque()},
    "tuple": lambda: {"it": (1, 2)},
    "set": lambda: {"it": {1}},
    "bytes": lambda: {"it": b"x"},
    "nan": lambda: {"it": float("nan")},
    "infinity": lambda: {"it": float("inf")},
    "number-as-key": lambda: {"it": {1: 2}},
    "lone-surrogate": lambda: {"it": "\ud800"},
    "cycle": lambda: {"it": a_cycle()},
    "deep": lambda: {"it": a_deep_value()},
}


@pytest.mark.parametrize("name", NOT_JSON)
async def test_an_input_that_is_not_json_is_refused_and_nothing_is_stored(url: str, name: str) -> None:
    async with Durable(url, [durable("flow").step("say", echo)]) as app:
        with pytest.raises(PayloadError, match=r"\bit\b"):
            await app.start("flow", NOT_JSON[name]())
        assert await app.list() == []


@pytest.mark.parametrize("name", NOT_JSON)
async def test_a_result_that_is_not_json_fails_its_node_at_once_and_its_neighbours_go_on(url: str, name: str) -> None:
    async def work(ctx: Context) -> Any:
        return NOT_JSON[name]() if ctx.input == "bad" else ctx.input

    async with Durable(url, [durable("flow").step("work", work)]) as app, app.worker():
        good = await app.start_many("flow", list(range(5)))
        error = await failure_of(app, "flow", "bad")
        for number, each in enumerate(good):
            assert await app.result(each.run_id, timeout=PATIENCE) == {"work": number}
        entries = await app.journal(error.run_id)
    assert (error.error.node, error.error.type) == ("work", "PayloadError")
    assert ("results.work" if name == "deep" else "results.work.it") in error.error.message
    assert [(entry.attempt, entry.status) for entry in entries] == [(1, "failed")]


async def test_a_result_of_20_megabytes_fails_its_node_by_name_and_nobody_else(url: str) -> None:
    async def work(ctx: Context) -> Any:
        return "x" * 20_000_000 if ctx.input == "bad" else ctx.input

    flow = durable("flow").step("first", one, compensate=undo).step("work", work).step("last", one)
    async with Durable(url, [flow]) as app, app.worker():
        good = await app.start_many("flow", list(range(5)))
        error = await failure_of(app, "flow", "bad")
        for number, each in enumerate(good):
            assert await app.result(each.run_id, timeout=PATIENCE) == {"first": 1, "work": number, "last": 1}
    assert (error.error.node, error.error.type) == ("work", "PayloadError")
    assert "results.work" in error.error.message
    assert list(error.compensated) == ["first"]


async def test_a_result_of_20_megabytes_is_kept_where_it_is_allowed(url: str) -> None:
    big = "x" * 20_000_000
    flow = durable("flow").step("work", lambda ctx: big).step("last", lambda ctx: len(ctx.results["work"]))
    async with Durable(url, [flow], max_value_bytes=32 * 2**20) as app, app.worker():
        started = await app.start("flow")
        results = await app.result(started.run_id, timeout=PATIENCE)
    assert results["work"] == big
    assert results["last"] == 20_000_000


class BrokenError(Exception):
    """An error that cannot be printed."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class GarbageError(Exception):
    """An error whose text no database takes as it is."""

    def __str__(self) -> str:
        return "before\u0000\ud800after"


class NoTextError(Exception):
    """An error whose text is no text."""

    def __str__(self) -> str:
        return 42  # type: ignore[return-value]  # noqa: PLE0307 - this is what is wrong with it


@pytest.mark.parametrize("kind", [BrokenError, GarbageError, NoTextError], ids=lambda kind: kind.__name__)
async def test_an_error_that_cannot_be_told_is_still_journaled_by_its_class(url: str, kind: type[Exception]) -> None:
    async def work(ctx: Context) -> int:
        if ctx.input == "bad":
            raise kind
        return 1

    flow = durable("flow").step("first", one, compensate=undo).step("work", work, max_retries=1, retry_backoff=0.01)
    async with Durable(url, [flow]) as app, app.worker():
        good = await app.start("flow", "good")
        error = await failure_of(app, "flow", "bad")
        assert await app.result(good.run_id, timeout=PATIENCE) == {"first": 1, "work": 1}
        entries = [entry for entry in await app.journal(error.run_id) if entry.node == "work"]
    assert (error.error.node, error.error.type) == ("work", kind.__name__)
    assert isinstance(error.error.message, str)
    assert [entry.status for entry in entries] == ["retrying", "failed"]
    assert list(error.compensated) == ["first"]
    error.error.message.encode()


async def test_an_error_of_megabytes_is_told_shortened(url: str) -> None:
    async def work(ctx: Context) -> None:
        raise ValueError("x" * 20_000_000)

    async with Durable(url, [durable("flow").step("work", work, max_retries=0)]) as app, app.worker():
        error = await failure_of(app, "flow")
    assert error.error.type == "ValueError"
    assert error.error.message.startswith("xxx")
    assert len(error.error.message) < 4 * 2**20


async def test_a_file_that_is_no_database_is_refused_by_name_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"these are not the runs you are looking for\n" * 500)
    before = path.read_bytes()
    with pytest.raises(StoreUnavailableError, match=r"store\.db"):
        async with Durable(file_url(tmp_path)):
            pytest.fail("entered")
    assert path.read_bytes() == before


async def test_a_damaged_database_is_told_by_name(tmp_path: Path) -> None:
    flow = durable("flow").step("say", echo)
    async with Durable(file_url(tmp_path), [flow]) as app, app.worker():
        for started in await app.start_many("flow", ["x" * 1000] * 200):
            await app.result(started.run_id, timeout=PATIENCE)
    path = tmp_path / "store.db"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)

    async def look() -> None:
        async with Durable(file_url(tmp_path)) as app:
            await app.list()

    with pytest.raises(StoreUnavailableError, match=r"store\.db"):
        await look()


async def test_a_folder_in_place_of_the_file_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "store.db").mkdir()
    with pytest.raises(StoreUnavailableError, match=r"store\.db"):
        async with Durable(file_url(tmp_path)):
            pytest.fail("entered")


async def test_a_read_only_store_can_be_read_and_refuses_every_write_by_name(tmp_path: Path) -> None:
    flow = durable("flow").step("say", echo)
    async with Durable(file_url(tmp_path), [flow]) as app:
        waiting = await app.start("flow", "waiting", key="k")
    before = (tmp_path / "store.db").read_bytes()
    async with Durable(file_url(tmp_path) + "?mode=ro", [durable("flow").step("say", echo)]) as app:
        assert (await app.status(waiting.run_id)).input == "waiting"
        assert [row.run_id for row in await app.list()] == [waiting.run_id]
        assert await app.journal(waiting.run_id) == []
        writes = [app.start("flow"), app.start_many("flow", [1, 2]), app.cancel(waiting.run_id)]
        writes += [app.signal(waiting.run_id, "go")]
        for write in writes:
            with pytest.raises(StoreUnavailableError, match=r"\bread\b"):
                await write
        with pytest.raises(StoreUnavailableError, match=r"\bread\b"):
            async with app.worker():
                pytest.fail("entered")
    assert (tmp_path / "store.db").read_bytes() == before
    async with Durable(file_url(tmp_path), [durable("flow").step("say", echo)]) as app, app.worker():
        assert await app.result(waiting.run_id, timeout=PATIENCE) == {"say": "waiting"}
        assert len(await app.list()) == 1


async def test_a_read_only_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=r"store\.db"):
        async with Durable(file_url(tmp_path) + "?mode=ro"):
            pytest.fail("entered")
    assert names_in(tmp_path) == set()


def change_schema(folder: Path, statement: str) -> None:
    """Change the table of migrations, as another version of the code would have."""
    with contextlib.closing(sqlite3.connect(folder / "store.db")) as connection:
        connection.execute(statement)
        connection.commit()


async def test_a_schema_newer_than_the_code_is_refused_by_name_and_left_as_it_is(tmp_path: Path) -> None:
    def app() -> Durable:
        return Durable(file_url(tmp_path), [durable("flow").step("say", echo)])

    async with app() as first:
        started = await first.start("flow", "kept")
        latest = (await first.schema_status()).latest
    change_schema(tmp_path, "INSERT INTO stepwell_schema VALUES (99, 'of_the_future', 0)")
    with pytest.raises(SchemaError, match="99") as caught:
        async with app():
            pytest.fail("entered")
    assert (caught.value.code, str(latest) in str(caught.value)) == ("schema", True)
    with pytest.raises(SchemaError, match="99"):
        await app().ensure_tables()
    with pytest.raises(SchemaError, match="99"):
        async with Durable(file_url(tmp_path) + "?mode=ro"):
            pytest.fail("entered")
    assert await app().schema_status() == SchemaStatus(version=99, latest=latest, pending=())
    change_schema(tmp_path, "DELETE FROM stepwell_schema WHERE version = 99")
    async with app() as again, again.worker():
        assert await again.result(started.run_id, timeout=PATIENCE) == {"say": "kept"}


def on_a_full_disk(folder: Path, limit: int, mode: str) -> dict[str, Any]:
    """What the program that fills the disk found, and that it ended of its own."""
    command = [sys.executable, "-m", "tests.programs.full_disk", str(folder), str(limit), mode]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.stdout, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found | {"stderr": ended.stderr, "exit": ended.returncode}


async def test_a_full_disk_is_told_by_name_and_what_was_acknowledged_is_there(tmp_path: Path) -> None:
    found = on_a_full_disk(tmp_path, 600_000, "start")
    assert found["error"] == "StoreUnavailableError", found
    assert "store.db" in found["message"]
    assert len(found["acknowledged"]) > 10
    assert found["still_readable"], found
    async with Durable(file_url(tmp_path), [full_disk.workflow()]) as app, app.worker():
        kept = {row.run_id for row in await app.list(limit=full_disk.MOST_RUNS)}
        assert set(found["acknowledged"]) <= kept
        for run_id in found["acknowledged"]:
            assert (await app.result(run_id, timeout=PATIENCE))["after"] == 20_006


@pytest.mark.slow
async def test_a_disk_that_fills_under_a_worker_loses_no_run(tmp_path: Path) -> None:
    found = on_a_full_disk(tmp_path, 500_000, "work")
    assert "TimeoutError" in found["endings"].values() or "StoreUnavailableError" in found["endings"].values(), found
    async with Durable(file_url(tmp_path), [full_disk.workflow()]) as app, app.worker():
        for number, run_id in enumerate(found["endings"]):
            results = await app.result(run_id, timeout=PATIENCE)
            assert results["fill"].startswith(f"{number:06}")
            assert results["after"] == 20_006


async def test_a_name_or_a_key_no_store_can_hold_is_refused_before_it_is_written(url: str) -> None:
    async with Durable(url, [durable("flow").step("say", echo)]) as app:
        for key in ("nul\u0000", "lone\ud800"):
            with pytest.raises((DurableError, ValueError)):
                await app.start("flow", key=key)
        started = await app.start("flow", key="fine")
        for name in ("nul\u0000", "lone\ud800", ""):
            with pytest.raises((DurableError, ValueError)):
                await app.signal(started.run_id, name)
        assert len(await app.list()) == 1
