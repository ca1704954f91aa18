"""Each attempt has a copy of its own of the context in which the worker was entered, or `run` was called."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Context, Durable, durable
from tests.api import running_fixtures
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

url = running_fixtures.url
tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


class Watch:
    """Functions that note the variable, and then change it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def note(self, name: str, value: Any = 1, *, fails: bool = False) -> Callable[..., Any]:
        """A plain function."""

        def plain(*given: Any) -> Any:
            self.seen.append((name, tenant.get()))
            tenant.set(name)
            if fails:
                raise ValueError(name)
            return value

        return plain

    def note_async(self, name: str, *, waits: bool, fails: bool = False) -> Callable[..., Any]:
        """An async function."""

        async def quick(*given: Any) -> Any:
            self.seen.append((name, tenant.get()))
            tenant.set(name)
            if waits:
                await asyncio.sleep(0)
                assert tenant.get() == name
                await asyncio.create_task(self._inherits(name))
            if fails:
                raise ValueError(name)
            return 1

        return quick

    async def _inherits(self, name: str) -> None:
        assert tenant.get() == name

    def everything(self) -> Any:
        """A workflow with a function in every place."""
        flow = durable("flow").step("quick", self.note_async("quick", waits=False))
        flow.step("waits", self.note_async("waits", waits=True), when=self.note("when", value=True))
        flow.step("plain", self.note("plain"))
        flow.parallel("all", {"p": self.note_async("p", waits=True), "q": self.note_async("q", waits=False)})
        flow.route("route", self.note("resolver", "x"), {"x": self.note_async("branch", waits=True)})
        flow.sleep("sleep", self.note("sleep", 0))
        flow.step("undone", self.note("done"), compensate=self.note_async("undo", waits=True))
        flow.step("too", self.note("too"), compensate=self.note("undo plain"))
        return flow.step("fails", self.note_async("fails", waits=True, fails=True), max_retries=1, retry_backoff=0)


async def test_no_function_sees_the_variables_that_another_attempt_set(url: str) -> None:
    watch = Watch()
    flow = watch.everything()
    tenant.set("worker's")
    async with Durable(url, [flow]) as app, app.worker():
        tenant.set("set later")
        run_id = (await app.start(flow)).run_id
        with pytest.raises(Exception, match="fails"):
            await app.result(run_id, timeout=PATIENCE)
    assert len(watch.seen) == 15
    assert {value for _, value in watch.seen} == {"worker's"}
    assert tenant.get() == "set later"


async def test_a_run_in_memory_gives_each_attempt_the_callers_context_and_leaks_nothing_to_it() -> None:
    watch = Watch()
    tenant.set("caller's")
    with pytest.raises(Exception, match="fails"):
        await watch.everything().run()
    assert len(watch.seen) == 15
    assert {value for _, value in watch.seen} == {"caller's"}
    assert tenant.get() == "caller's"


async def test_the_functions_of_one_attempt_share_its_context() -> None:
    watch = Watch()
    flow = durable("flow").loop(
        "loop",
        watch.note_async("handler", waits=True),
        max_iterations=2,
        map_input=watch.note("map"),
        until=watch.note("until", value=False),
        feedback=watch.note("feedback"),
    )
    await flow.run()
    first = [("map", "nobody"), ("handler", "map"), ("until", "handler"), ("feedback", "until")]
    assert watch.seen == [*first, ("handler", "nobody")]


async def test_a_plain_handler_that_gives_an_awaitable_keeps_its_context_for_it() -> None:
    seen = list[str]()

    def begin(ctx: Context) -> Any:
        tenant.set("begun")
        return go_on()

    async def go_on() -> None:
        await asyncio.sleep(0)
        seen.append(tenant.get())

    await durable("flow").step("a", begin).step("b", lambda ctx: seen.append(tenant.get())).run()
    assert seen == ["begun", "nobody"]
