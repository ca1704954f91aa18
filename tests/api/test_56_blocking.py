"""The blocking face: the same calls without `await`, from many threads; where it is refused, and how it is left."""

from __future__ import annotations

import asyncio
import contextvars
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import uvloop

from stepwell import BlockingDurable, Context, DefinitionError, Durable, DurableError, RunNotFoundError, durable
from tests.api import running_fixtures
from tests.api.running_fixtures import decline, echo, file_url, one
from tests.gates import Gate
from tests.postgres import fresh_url
from tests.waiting import PATIENCE, POLL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

url = running_fixtures.url
T = TypeVar("T", bound="Callable[..., object]")


def forking(test: T) -> T:
    """Marks a test that forks a child while the face is open."""
    can = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
    quiet: Callable[[T], T] = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    return quiet(can(test))


CALLS: dict[str, Callable[[BlockingDurable, str], Any]] = {
    "start": lambda shop, run_id: shop.start("flow"),
    "start_many": lambda shop, run_id: shop.start_many("flow", [1, 2]),
    "run": lambda shop, run_id: shop.run("flow"),
    "signal": lambda shop, run_id: shop.signal(run_id, "go"),
    "resume": lambda shop, run_id: shop.resume(run_id, "go"),
    "expected_signals": lambda shop, run_id: shop.expected_signals(run_id),
    "status": lambda shop, run_id: shop.status(run_id),
    "explain": lambda shop, run_id: shop.explain(run_id),
    "explain_many": lambda shop, run_id: shop.explain_many([run_id]),
    "list": lambda shop, run_id: shop.list(),
    "journal": lambda shop, run_id: shop.journal(run_id),
    "cancel": lambda shop, run_id: shop.cancel(run_id),
    "recover": lambda shop, run_id: shop.recover(),
    "result": lambda shop, run_id: shop.result(run_id),
    "ensure_tables": lambda shop, run_id: shop.ensure_tables(),
    "schema_status": lambda shop, run_id: shop.schema_status(),
    "worker": lambda shop, run_id: shop.worker(),
    "read_link": lambda shop, run_id: shop.read_link("token"),
    "answer_link": lambda shop, run_id: shop.answer_link("token"),
    "open": lambda shop, run_id: shop.open(),
    "close": lambda shop, run_id: shop.close(),
}


def until(condition: Callable[[], object]) -> None:
    """Poll until it holds, without an event loop."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(POLL_SECONDS)


def test_a_run_from_its_start_to_its_result(url: str) -> None:
    flow = durable("flow").step("value", echo).wait_for_signal("signoff", "go")
    with Durable(url, [flow]).blocking() as shop, shop.worker(concurrency=2) as worker:
        started = shop.start(flow, {"a": 1}, key="k")
        assert shop.signal(started.run_id, "go", "yes").accepted
        assert shop.result(started.run_id, timeout=PATIENCE) == {"value": {"a": 1}, "signoff": "yes"}
        assert shop.status(started.run_id).status == "completed"
        assert [entry.node for entry in shop.journal(started.run_id)] == ["value", "signoff"]
        assert {entry.worker for entry in shop.journal(started.run_id)} == {worker.worker_id}
        assert [run.run_id for run in shop.list(workflow=flow)] == [started.run_id]
        assert shop.start("flow", {"a": 2}, key="k").same_input is False


def test_errors_are_those_of_the_awaited_calls(url: str) -> None:
    with Durable(url).blocking() as shop:
        with pytest.raises(RunNotFoundError, match="nothing"):
            shop.status("nothing")
        with pytest.raises(DefinitionError, match="concurrency"):
            shop.worker(concurrency=0)


def test_run_starts_and_waits_and_says_how_it_ended(url: str) -> None:
    flows = [durable("flow").step("value", echo), durable("bad").step("pay", decline, max_retries=0)]
    app = Durable(url, flows)

    async def awaited() -> dict[str, Any]:
        async with app, app.worker():
            return await app.run("flow", 1, key="k", timeout=PATIENCE)

    assert asyncio.run(awaited()) == {"value": 1}
    with app.blocking() as shop, shop.worker():
        assert shop.run("flow", 2, key="k", timeout=PATIENCE) == {"value": 1 if shop.app.shared else 2}
        with pytest.raises(DurableError, match="card declined"):
            shop.run("bad", timeout=PATIENCE)


def test_run_gives_up_after_its_timeout_and_the_run_goes_on(url: str) -> None:
    with Durable(url, [durable("flow").step("value", one)]).blocking() as shop:
        with pytest.raises(TimeoutError):
            shop.run("flow", key="k", timeout=0.01)
        with shop.worker():
            assert shop.run("flow", key="k", timeout=PATIENCE) == {"value": 1}


def test_fifty_threads_call_at_once(url: str) -> None:
    flow = durable("flow").step("value", echo).step("plain", lambda ctx: ctx.input)
    with Durable(url, [flow]).blocking() as shop, shop.worker(), ThreadPoolExecutor(50) as pool:
        ready = threading.Barrier(50)

        def order(number: int) -> Any:
            ready.wait(PATIENCE)
            return shop.run(flow, number, key=f"order-{number % 25}", timeout=PATIENCE)["plain"]

        results = list(pool.map(order, range(50)))
        assert len(shop.list()) == 25
    assert [number % 25 for number in results] == [number % 25 for number in range(50)]


@pytest.mark.parametrize("name", CALLS)
def test_a_call_in_a_running_event_loop_says_to_await_and_changes_nothing(url: str, name: str) -> None:
    with Durable(url, [durable("flow").step("value", one)]).blocking() as shop:
        run_id = shop.start("flow").run_id

        async def view() -> None:
            CALLS[name](shop, run_id)

        with pytest.raises(DurableError, match="Await the same call"):
            asyncio.run(view())
        assert [(run.run_id, run.status) for run in shop.list()] == [(run_id, "pending")]


def test_a_plain_handler_may_call_and_an_async_one_is_told_to_await(url: str) -> None:
    def order(ctx: Context) -> str:
        return shop.start("flow", key="from a handler").run_id

    async def order_again(ctx: Context) -> str:
        try:
            return shop.start("flow").run_id
        except DurableError as error:
            return str(error)

    flows = [durable("flow").step("value", one), durable("outer").step("a", order).step("b", order_again)]
    with Durable(url, flows).blocking() as shop, shop.worker():
        results = shop.run("outer", timeout=PATIENCE)
        assert shop.result(results["a"], timeout=PATIENCE) == {"value": 1}
    assert "Await the same call" in results["b"]


@pytest.mark.parametrize("name", [name for name in CALLS if name not in {"open", "close"}])
def test_a_call_before_it_is_opened_or_after_it_was_closed_is_refused(name: str) -> None:
    shop = Durable("sqlite://", [durable("flow").step("value", one)]).blocking()
    for _ in range(2):
        with pytest.raises(DurableError, match="not open"):
            CALLS[name](shop, "run")
        with shop:
            pass


def test_it_is_opened_and_closed_by_hand_again_and_again(url: str) -> None:
    shop = Durable(url, [durable("flow").step("value", one)]).blocking()
    shop.close()
    for key in ("a", "b"):
        assert shop.open() is shop
        with pytest.raises(DurableError, match="open already"):
            shop.open()
        assert shop.start("flow", key=key).created
        shop.close()
        shop.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "stepwell-blocking"]


def test_an_app_that_is_entered_elsewhere_is_not_opened(url: str) -> None:
    app = Durable(url)
    with app.blocking():
        second = app.blocking()
        with pytest.raises(DurableError, match="entered already"):
            second.open()
        with pytest.raises(DurableError, match="entered in another event loop"):
            asyncio.run(app.list())
    with second as shop:
        assert shop.list() == []


def test_a_store_that_cannot_be_opened_says_so_and_leaves_no_thread(tmp_path: Path) -> None:
    shop = Durable(f"sqlite:///{tmp_path}/none/store.db").blocking()
    with pytest.raises(DurableError, match="no such folder"):
        shop.open()
    assert not [thread for thread in threading.enumerate() if thread.name == "stepwell-blocking"]
    with pytest.raises(DurableError, match="not open"):
        shop.list()


def test_a_loop_factory_that_fails_says_so() -> None:
    def broken() -> asyncio.AbstractEventLoop:
        raise OSError("no loops left")

    with pytest.raises(OSError, match="no loops left"):
        Durable("sqlite://").blocking(loop_factory=broken).open()


def test_it_runs_on_uvloop(url: str) -> None:
    async def kind(ctx: Context) -> str:
        return type(asyncio.get_running_loop()).__module__

    flow = durable("flow").step("loop", kind)
    with Durable(url, [flow]).blocking(loop_factory=uvloop.new_event_loop) as shop, shop.worker():
        assert shop.run("flow", timeout=PATIENCE) == {"loop": "uvloop"}


def test_a_call_carries_the_context_variables_of_its_thread(url: str) -> None:
    user = contextvars.ContextVar("user", default="none")

    async def who(ctx: Context) -> str:
        return user.get()

    with Durable(url, [durable("flow").step("who", who)]).blocking() as shop:
        token = user.set("ada")
        worker = shop.worker()
        with worker:
            user.reset(token)
            assert shop.run("flow", timeout=PATIENCE) == {"who": "ada"}


def test_closing_it_ends_the_waits_of_all_threads_and_stops_its_workers(url: str) -> None:
    gate = Gate()
    shop = Durable(url, [durable("flow").step("wait", gate.handler)]).blocking().open()
    worker = shop.worker(grace=0)
    worker.__enter__()
    run_id = shop.start("flow").run_id
    until(lambda: gate.calls)
    ended: list[str] = []

    def wait() -> None:
        with pytest.raises(DurableError) as raised:
            shop.result(run_id)
        ended.append(str(raised.value))

    threads = [threading.Thread(target=wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    waiting = shop.app._waiters._waiting
    until(lambda: sum(map(len, list(waiting.values()))) == 5)
    shop.close()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(ended) == 5
    assert all("the run goes on" in message for message in ended)
    with pytest.raises(DurableError, match="not open"):
        worker.__exit__(None, None, None)
    error = ValueError("why the block ended")
    worker.__exit__(ValueError, error, None)


def test_calls_in_flight_while_it_is_closed_return_or_raise_and_none_hangs(url: str) -> None:
    app = Durable(url, [durable("flow").step("value", one)])
    shop = app.blocking().open()
    begun = threading.Barrier(9)
    wrong: list[BaseException] = []
    keys: list[str] = []

    def start(thread: int) -> None:
        begun.wait(PATIENCE)
        for number in range(10_000):
            key = f"{thread}-{number}"
            try:
                shop.start("flow", key=key)
            except DurableError:
                return
            except BaseException as error:  # noqa: BLE001  it is looked at below
                wrong.append(error)
                return
            keys.append(key)

    threads = [threading.Thread(target=start, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    begun.wait(PATIENCE)
    until(lambda: len(keys) > 8)
    shop.close()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    if app.shared:
        with shop:
            stored = {run.key for run in shop.list(limit=100_000)}
        assert set(keys) <= stored


def test_ctrl_c_cancels_the_call_and_the_run_goes_on(tmp_path: Path) -> None:
    app = Durable(file_url(tmp_path), [durable("flow").step("value", one)])
    with app.blocking() as shop:
        run_id = shop.start("flow").run_id

        def interrupt() -> None:
            until(lambda: app._waiters._waiting)
            signal.pthread_kill(main, signal.SIGINT)

        main = threading.get_ident()
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            shop.result(run_id)
        thread.join(PATIENCE)
        assert app._waiters._waiting == {}
        with shop.worker():
            assert shop.result(run_id, timeout=PATIENCE) == {"value": 1}


async def test_an_app_is_opened_and_closed_without_a_block(url: str) -> None:
    app = Durable(url, [durable("flow").step("value", one)])
    await app.close()
    assert await app.open() is app
    with pytest.raises(DurableError, match="entered already"):
        await app.open()
    async with app.worker():
        assert await app.run("flow", timeout=PATIENCE) == {"value": 1}
    await app.close()
    await app.close()
    with pytest.raises(DurableError, match="not entered"):
        await app.list()
    async with app:
        await app.close()
        await app.open()


def in_child(what: Callable[[], Any]) -> str:
    """What it gives or raises in a forked child, as text."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover  in another process
        try:
            os.write(write, str(what()).encode())
        except BaseException as error:  # noqa: BLE001  it is told
            os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        text = told.read()
    os.waitpid(child, 0)
    return text


@forking
@pytest.mark.parametrize("kind", ["file", "postgres"])
def test_the_child_opens_a_loop_and_connections_of_its_own(kind: str, tmp_path: Path) -> None:
    url = file_url(tmp_path) if kind == "file" else fresh_url()
    app = Durable(url, [durable("flow").step("value", echo)])
    with app.blocking() as shop, shop.worker():
        assert shop.run("flow", 1, timeout=PATIENCE) == {"value": 1}

        def child() -> Any:  # pragma: no cover  in another process
            results = shop.run("flow", 2, timeout=PATIENCE)["value"]
            with shop.worker():
                results += shop.run("flow", 3, timeout=PATIENCE)["value"]
            shop.close()
            return results

        assert in_child(child) == "5"
        assert in_child(lambda: asyncio.run(entered(app))) == "3"
        assert shop.run("flow", 4, timeout=PATIENCE) == {"value": 4}
        assert len(shop.list()) == 4


@forking
def test_a_child_leaves_its_parents_worker_alone(tmp_path: Path) -> None:
    with Durable(file_url(tmp_path), [durable("flow").step("value", one)]).blocking() as shop:
        worker = shop.worker()
        with worker:
            assert in_child(lambda: worker.__exit__(None, None, None)) == "None"
            assert shop.run("flow", timeout=PATIENCE) == {"value": 1}


@forking
def test_children_that_are_forked_amid_transactions_can_write(tmp_path: Path) -> None:
    stopped = threading.Event()
    with Durable(file_url(tmp_path), [durable("flow").step("value", one)]).blocking() as shop, shop.worker():

        def write() -> None:
            while not stopped.is_set():
                shop.start("flow")

        threads = [threading.Thread(target=write) for _ in range(3)]
        for thread in threads:
            thread.start()
        told = [in_child(lambda: shop.start("flow", key="child").created) for _ in range(10)]
        stopped.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert told == ["True"] + ["False"] * 9


@forking
def test_a_child_that_is_forked_while_the_app_is_being_entered_enters_it_itself(tmp_path: Path) -> None:
    app = Durable(file_url(tmp_path), [durable("flow").step("value", one)])

    async def enter() -> str:
        entering = asyncio.ensure_future(app.open())
        await asyncio.sleep(0)
        told = in_child(lambda: threads_loop(entered(app)))
        await entering
        await app.close()
        return told

    assert asyncio.run(enter()) == "0"


@forking
def test_a_store_in_memory_stays_its_parents() -> None:
    with Durable("sqlite://", [durable("flow").step("value", one)]).blocking() as shop:
        assert "in the memory of the process" in in_child(lambda: shop.start("flow"))
        assert shop.list() == []


@forking
def test_processes_of_multiprocessing_call_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with Durable(file_url(tmp_path), [durable("flow").step("value", one)]).blocking() as shop:
        children = [context.Process(target=shop.start, args=["flow", number], daemon=True) for number in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join(PATIENCE)
            assert child.exitcode == 0
        assert sorted(shop.status(run.run_id).input for run in shop.list()) == [0, 1, 2]


async def entered(app: Durable) -> int:
    """How many runs the app shows that is entered in a forked child."""
    async with app:
        return len(await app.list())


def threads_loop(what: Coroutine[Any, Any, Any]) -> Any:
    """What it gives on an event loop of a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, what).result()
