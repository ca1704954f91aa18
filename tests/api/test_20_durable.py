"""`Durable`: its URLs and options, entering it, its tables; what one app shares with another and what it does not."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import (
    Context,
    DefinitionError,
    Durable,
    DurableError,
    PayloadError,
    RunFailedError,
    RunNotFoundError,
    SchemaStatus,
    durable,
)
from tests.api import running_fixtures
from tests.api.running_fixtures import echo, file_url, names_in, one, two
from tests.gates import Gate
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

url = running_fixtures.url


async def test_the_page_of_the_contract_runs_as_it_is_written(url: str) -> None:
    order = durable("order").step("reserve", echo).step("close", one)
    async with Durable(url, workflows=[order]) as app:
        started = await app.start("order", {"id": 42})
        async with app.worker(concurrency=100):
            results = await app.result(started.run_id, timeout=30)
    assert results == {"reserve": {"id": 42}, "close": 1}


async def test_a_store_can_be_given_instead_of_a_url(tmp_path: Path) -> None:
    """This is the seam for tests: names behind the public ones, which may change in any release."""
    from stepwell.runtime.system import SystemRuntime  # noqa: PLC0415  only this test looks behind the public names
    from stepwell.store_choice import store_for  # noqa: PLC0415  as above

    runtime = SystemRuntime()
    store = store_for(file_url(tmp_path), runtime)
    async with Durable(workflows=[durable("flow").step("one", one)], store=store, runtime=runtime) as app:
        assert app.url == store.url
        started = await app.start("flow")
        async with app.worker():
            assert await app.result(started.run_id, timeout=PATIENCE) == {"one": 1}
    async with Durable(store.url) as other:
        assert (await other.status(started.run_id)).results == {"one": 1}


def test_a_url_and_a_store_are_refused_together_and_so_are_neither() -> None:
    from stepwell.runtime.system import SystemRuntime  # noqa: PLC0415  as above
    from stepwell.store_choice import store_for  # noqa: PLC0415  as above

    url = "postgresql://me:secret@nowhere/shop"
    with pytest.raises(DefinitionError, match="takes a url or a store, got both") as raised:
        Durable(url, store=store_for("sqlite://", SystemRuntime()))
    assert "secret" not in str(raised.value)
    with pytest.raises(DefinitionError, match="needs a url"):
        Durable()


async def test_entering_an_app_creates_the_tables(tmp_path: Path) -> None:
    async with Durable(file_url(tmp_path)) as app:
        status = await app.schema_status()
    assert status == SchemaStatus(version=status.latest, latest=status.latest, pending=())


async def test_the_schemas_status_is_known_without_entering_and_changes_nothing(tmp_path: Path) -> None:
    app = Durable(file_url(tmp_path))
    first = await app.schema_status()
    assert first.version < first.latest
    assert first.pending
    assert all(isinstance(name, str) for name in first.pending)
    assert await app.schema_status() == first


async def test_ensure_tables_migrates_without_entering(tmp_path: Path) -> None:
    app = Durable(file_url(tmp_path))
    await app.ensure_tables()
    status = await app.schema_status()
    assert status.version == status.latest
    assert status.pending == ()


async def test_ensure_tables_twice_harms_nothing_that_is_stored(tmp_path: Path) -> None:
    greet = durable("greet").step("say", echo)
    async with Durable(file_url(tmp_path), [greet]) as app:
        started = await app.start("greet", "hello")
        await app.ensure_tables()
        await Durable(file_url(tmp_path)).ensure_tables()
        assert (await app.status(started.run_id)).input == "hello"


async def test_three_slashes_are_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with Durable("sqlite:///relative.db"):
        pass
    assert "relative.db" in names_in(tmp_path)


async def test_four_slashes_are_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    target = tmp_path / "absolute.db"
    address = f"sqlite:///{target}"
    assert address.startswith("sqlite:////")
    async with Durable(address):
        pass
    assert "absolute.db" in names_in(tmp_path)
    assert names_in(elsewhere) == set()


async def test_a_store_in_memory_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    greet = durable("greet").step("say", echo)
    async with Durable("sqlite://", [greet]) as app, app.worker():
        started = await app.start("greet", 1)
        await app.result(started.run_id, timeout=PATIENCE)
    assert names_in(tmp_path) == set()


async def test_two_apps_in_memory_share_nothing() -> None:
    greet = durable("greet").step("say", echo)
    async with Durable("sqlite://", [greet]) as first, Durable("sqlite://") as second:
        started = await first.start("greet", 1)
        with pytest.raises(RunNotFoundError):
            await second.status(started.run_id)


async def test_two_apps_in_one_process_may_know_different_workflows_of_one_name(tmp_path: Path) -> None:
    first = Durable(file_url(tmp_path, "first.db"), [durable("sum").step("value", one)])
    second = Durable(file_url(tmp_path, "second.db"), [durable("sum").step("value", two)])
    async with first, second, first.worker(), second.worker():
        started = [await first.start("sum"), await second.start("sum")]
        assert await first.result(started[0].run_id, timeout=PATIENCE) == {"value": 1}
        assert await second.result(started[1].run_id, timeout=PATIENCE) == {"value": 2}


async def test_two_apps_on_one_file_see_the_same_runs(tmp_path: Path) -> None:
    greet = durable("greet").step("say", echo)
    async with Durable(file_url(tmp_path), [greet]) as app, Durable(file_url(tmp_path)) as other, app.worker():
        started = await app.start("greet", "hello")
        assert await other.result(started.run_id, timeout=PATIENCE) == {"say": "hello"}


async def test_what_was_started_is_there_for_the_next_app_on_the_file(tmp_path: Path) -> None:
    greet = durable("greet").step("say", echo)
    async with Durable(file_url(tmp_path), [greet]) as app:
        started = await app.start("greet", "hello")
    again = durable("greet").step("say", echo)
    async with Durable(file_url(tmp_path), [again]) as app, app.worker():
        assert await app.result(started.run_id, timeout=PATIENCE) == {"say": "hello"}


async def test_the_url_of_an_app_can_be_read(url: str) -> None:
    app = Durable(url)
    assert app.url == url
    assert app.safe_url == url


def test_a_password_is_not_shown_when_a_url_is_refused() -> None:
    with pytest.raises(DurableError) as caught:
        Durable("mysql://shop:hunter2@localhost/shop")
    assert "hunter2" not in str(caught.value)
    assert "localhost" in str(caught.value)


@pytest.mark.parametrize("address", ["mysql://localhost/shop", "shop.db", ""])
def test_a_url_of_no_known_store_is_refused_by_name(address: str) -> None:
    with pytest.raises((DurableError, ValueError), match="sqlite"):
        Durable(address)


async def test_the_options_take_durations_as_seconds_or_timedelta(tmp_path: Path) -> None:
    for step_timeout, lease in ((60, 10), (timedelta(minutes=1), timedelta(seconds=10)), (0.5, 2.5)):
        greet = durable("greet").step("say", echo)
        app = Durable(file_url(tmp_path), [greet], step_timeout=step_timeout, lease=lease, max_crashes=3, queue="q")
        async with app, app.worker():
            started = await app.start("greet", 1)
            assert await app.result(started.run_id, timeout=PATIENCE) == {"say": 1}


@pytest.mark.parametrize(
    "options",
    [
        {"step_timeout": 0},
        {"step_timeout": -1},
        {"step_timeout": "soon"},
        {"lease": 0},
        {"lease": timedelta(seconds=-1)},
        {"max_crashes": 0},
        {"max_value_bytes": 0},
        {"queue": ""},
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_refused_by_its_name(options: dict[str, Any]) -> None:
    with pytest.raises((DurableError, ValueError, TypeError), match=next(iter(options))):
        Durable("sqlite://", **options)


async def test_the_apps_step_timeout_holds_where_a_step_names_none(url: str) -> None:
    gate = Gate()
    slow = durable("slow").step("wait", gate.handler, max_retries=0)
    async with Durable(url, [slow], step_timeout=0.05) as app, app.worker():
        started = await app.start("slow")
        with pytest.raises(RunFailedError) as caught:
            await app.result(started.run_id, timeout=PATIENCE)
    assert caught.value.error.type == "TimeoutError"
    assert caught.value.error.node == "wait"
    assert gate.canceled == 1


async def test_a_steps_own_timeout_beats_the_apps(url: str) -> None:
    gate = Gate("done")
    slow = durable("slow").step("wait", gate.handler, timeout=60, max_retries=0).step("close", one)
    quick = durable("quick").step("wait", Gate().handler, max_retries=0)
    async with Durable(url, [slow, quick], step_timeout=0.05) as app, app.worker():
        patient = await app.start("slow")
        await gate.entered()
        hasty = await app.start("quick")
        with pytest.raises(RunFailedError):
            await app.result(hasty.run_id, timeout=PATIENCE)
        gate.let()
        assert await app.result(patient.run_id, timeout=PATIENCE) == {"wait": "done", "close": 1}


async def test_max_value_bytes_bounds_what_is_taken_in(url: str) -> None:
    greet = durable("greet").step("say", one)
    async with Durable(url, [greet], max_value_bytes=100) as app:
        await app.start("greet", "x" * 90)
        with pytest.raises(PayloadError, match="100"):
            await app.start("greet", "x" * 200)
        assert len(await app.list()) == 1


async def test_max_value_bytes_bounds_what_a_handler_returns(url: str) -> None:
    async def verbose(ctx: Context) -> str:
        return "x" * 200

    greet = durable("greet").step("say", verbose)
    async with Durable(url, [greet], max_value_bytes=100) as app, app.worker():
        started = await app.start("greet")
        with pytest.raises(RunFailedError) as caught:
            await app.result(started.run_id, timeout=PATIENCE)
        entries = await app.journal(started.run_id)
    assert caught.value.error.type == "PayloadError"
    assert [(entry.attempt, entry.status) for entry in entries] == [(1, "failed")]


async def test_workflows_may_come_from_any_iterable(url: str) -> None:
    async with Durable(url, (durable(name).step("value", one) for name in ("first", "second"))) as app, app.worker():
        for name in ("first", "second"):
            started = await app.start(name)
            assert await app.result(started.run_id, timeout=PATIENCE) == {"value": 1}


async def test_an_app_that_was_not_entered_says_so() -> None:
    app = Durable("sqlite://", [durable("greet").step("say", one)])
    with pytest.raises((DurableError, RuntimeError)):
        await app.start("greet")
