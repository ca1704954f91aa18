"""Fakes for handlers, and a record of every call: what is put around each function of a workflow under test."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from stepwell.testing.checks import check_mapping, check_names
from stepwell.testing.handlers import changed, names_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping

    from stepwell.core.kinds.functions import FunctionName
    from stepwell.workflow.builder import Workflow
    from stepwell.workflow.context import Context
    from stepwell.workflow.nodes import Function


@dataclass(slots=True)
class Call:
    """One call of a handler or compensator and its outcome.

    - `name`: the step, loop or entry, `node/branch` in a route, with "undo " before it for a compensator.
    - `input`: the run's input; in a loop, the iteration's.
    - `is_over`: False while the call is in flight; then `result` or `error` is set.
    """

    name: str
    run_id: str
    workflow: str
    input: Any
    attempt: int
    iteration: int | None
    idempotency_key: str
    is_over: bool = False
    result: Any = None
    error: BaseException | None = None


class Watcher(Protocol):
    """Hears of each call, where it begins and where it ends; the plain forms are called in the handler's thread."""

    async def enters(self, call: Call) -> None:
        """Before the first line of an async function."""

    async def leaves(self, call: Call) -> None:
        """After its last line."""

    def waits(self, call: Call, times: int) -> None:
        """An async function waits for something, for the `times`th time."""

    def enters_plainly(self, call: Call) -> None:
        """Before the first line of a plain function."""

    def leaves_plainly(self, call: Call) -> None:
        """After its last line."""


def watched(workflows: Iterable[Workflow], fakes: Mapping[str, Any], watcher: Watcher) -> list[Workflow]:
    """Copies of the workflows, with the fakes in their places and the watcher around every function."""
    workflows = list(workflows)
    check_mapping("fakes", fakes)
    check_names("fakes", fakes, workflows)

    def change(name: FunctionName, function: Function) -> Function:
        fake = next((_faked(fakes[one]) for one in name.all if one in fakes), None)
        return _watched(name.shown, fake or function, watcher)

    return [changed(workflow, change) for workflow in workflows]


def shown_name(name: str, workflows: Iterable[Workflow]) -> set[str]:
    """Under which names the calls of what goes by this one are recorded."""
    return {one.shown for workflow in workflows for one in names_in(workflow) if name in one.all}


def _faked(fake: Any) -> Function:
    """A function as it is; an exception is raised, anything else is the result."""
    if isinstance(fake, BaseException) or (isinstance(fake, type) and issubclass(fake, BaseException)):
        error = fake

        async def fail(*_: Any) -> None:
            raise error

        return fail
    if callable(fake):
        function: Function = fake
        return function

    async def give(*_: Any) -> Any:
        return fake

    return give


def _watched(name: str, function: Function, watcher: Watcher) -> Function:
    if _is_async(function):

        @functools.wraps(function)
        async def call(*given: Any) -> Any:
            one = _call(name, given)
            await watcher.enters(one)
            return await _ended(one, function(*given), watcher)

        return call

    @functools.wraps(function)
    def call_plainly(*given: Any) -> Any:
        one = _call(name, given)
        watcher.enters_plainly(one)
        try:
            result = function(*given)
        except BaseException as error:
            one.error, one.is_over = error, True
            raise
        if inspect.isawaitable(result):
            return _ended(one, result, watcher)
        one.result, one.is_over = result, True
        watcher.leaves_plainly(one)
        return result

    return call_plainly


async def _ended(one: Call, going: Awaitable[Any], watcher: Watcher) -> Any:
    try:
        result = await _Waits(one, going, watcher)
    except BaseException as error:
        one.error, one.is_over = error, True
        raise
    one.result, one.is_over = result, True
    await watcher.leaves(one)
    return result


class _Waits:
    """What an awaitable gives, with word to the watcher whenever it waits."""

    __slots__ = ("_call", "_going", "_watcher")

    def __init__(self, call: Call, going: Awaitable[Any], watcher: Watcher) -> None:
        self._call = call
        self._going = going
        self._watcher = watcher

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._going.__await__()
        times = 0
        try:
            waits_for = next(steps)
            while True:
                times += 1
                self._watcher.waits(self._call, times)
                try:
                    yield waits_for
                except BaseException as error:
                    if not isinstance(steps, Generator):  # a future's own iterator, which can only be asked again
                        raise
                    waits_for = steps.throw(error)
                else:
                    waits_for = next(steps)
        except StopIteration as stop:
            return stop.value


def _call(name: str, given: tuple[Any, ...]) -> Call:
    ctx: Context = given[-1]
    value = given[0] if len(given) > 1 else ctx.input
    return Call(name, ctx.run_id, ctx.workflow, value, ctx.attempt, ctx.iteration, ctx.idempotency_key)


def _is_async(function: Function) -> bool:
    called = getattr(function, "__call__", None)  # noqa: B004  it is inspected, not tested for
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)
