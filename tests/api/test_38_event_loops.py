"""An app that is used in another event loop or process than it was entered in: told by name, and nothing is written."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Durable, DurableError, durable
from tests.api import running_fixtures
from tests.api.running_fixtures import one
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

url = running_fixtures.url

CALLS: dict[str, Callable[[Durable, str], Awaitable[Any]]] = {
    **running_fixtures.CALLS,
    "start": lambda app, run_id: app.start("flow", key="another"),
    "start_many of none": lambda app, run_id: app.start_many("flow", []),
    "ensure_tables": lambda app, run_id: app.ensure_tables(),
    "schema_status": lambda app, run_id: app.schema_status(),
    "leaving": lambda app, run_id: app.__aexit__(None, None, None),
}


class Entered:
    """An app that is entered in a loop of its own, which runs only when it is asked to."""

    def __init__(self, url: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.app = Durable(url, [durable("flow").step("value", one)])
        self.run(self.app.__aenter__())
        self.run_id = self.run(self.app.start("flow")).run_id

    def run(self, what: Awaitable[Any]) -> Any:
        """What it gives, in the loop in which the app was entered."""

        async def within_patience() -> Any:
            return await asyncio.wait_for(what, PATIENCE)

        return self.loop.run_until_complete(within_patience())

    def is_untouched(self) -> bool:
        """Whether the one run is all there is, as it was started."""
        runs = self.run(self.app.list())
        return [(each.run_id, str(each.status)) for each in runs] == [(self.run_id, "pending")]


@pytest.fixture
def entered(url: str) -> Iterator[Entered]:
    """An app in a loop of its own."""
    entered = Entered(url)
    yield entered
    entered.run(entered.app.__aexit__(None, None, None))
    entered.loop.close()


def elsewhere(call: Callable[[], Awaitable[Any]]) -> Any:
    """What the call gives in another loop."""

    async def main() -> Any:
        return await asyncio.wait_for(call(), PATIENCE)

    return asyncio.run(main())


@pytest.mark.parametrize("name", CALLS)
def test_a_call_from_another_event_loop_is_refused_and_nothing_is_written(entered: Entered, name: str) -> None:
    with pytest.raises(DurableError, match="entered in another event loop"):
        elsewhere(lambda: CALLS[name](entered.app, entered.run_id))
    assert entered.is_untouched()


@pytest.mark.parametrize("name", CALLS)
def test_a_call_from_a_threads_own_event_loop_is_refused(entered: Entered, name: str) -> None:
    errors: list[BaseException] = []

    def main() -> None:
        try:
            elsewhere(lambda: CALLS[name](entered.app, entered.run_id))
        except DurableError as error:
            errors.append(error)

    async def beside() -> None:
        thread = threading.Thread(target=main)
        thread.start()
        await eventually(lambda: not thread.is_alive())

    entered.run(beside())
    assert "entered in another event loop" in str(errors[0])
    assert entered.is_untouched()


def test_a_worker_is_entered_and_left_in_the_event_loop_of_its_app(entered: Entered) -> None:
    async def enter() -> None:
        async with entered.app.worker():
            pytest.fail("entered")

    with pytest.raises(DurableError, match="entered in another event loop"):
        elsewhere(enter)

    async def made_here() -> Any:
        return entered.app.worker()

    worker = entered.run(made_here())
    with pytest.raises(DurableError, match="entered in another event loop"):
        elsewhere(worker.__aenter__)
    assert entered.is_untouched()
    entered.run(worker.__aenter__())
    with pytest.raises(DurableError, match="entered in another event loop"):
        elsewhere(lambda: worker.__aexit__(None, None, None))
    assert entered.run(entered.app.result(entered.run_id, timeout=PATIENCE)) == {"value": 1}
    entered.run(worker.__aexit__(None, None, None))


def test_an_app_may_be_entered_in_one_event_loop_after_the_other(url: str) -> None:
    app = Durable(url, [durable("flow").step("value", one)])
    asyncio.run(app.ensure_tables())

    async def enter_and_leave() -> None:
        async with app:
            pass

    asyncio.run(enter_and_leave())
    asyncio.run(enter_and_leave())


def test_a_call_after_the_event_loop_of_the_app_was_closed_says_that() -> None:
    app = Durable("sqlite://", [durable("flow").step("value", one)])
    asyncio.run(app.__aenter__())
    for call in (lambda: app.start("flow"), lambda: app.__aexit__(None, None, None)):
        with pytest.raises(DurableError, match="another event loop, which is closed"):
            elsewhere(call)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_is_told_that_the_app_is_its_parents(entered: Entered) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover  in another process
        try:
            elsewhere(lambda: entered.app.start("flow"))
        except DurableError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as told:
        assert "entered in the process from which this one was forked" in told.read()
    assert entered.is_untouched()
