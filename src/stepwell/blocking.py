"""The blocking face of an app: its calls without `await`, from any thread, in front of one event loop in one thread."""

from __future__ import annotations

import asyncio
import atexit
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar, overload

from stepwell.errors import DurableError
from stepwell.runtime.portal import Portal, PortalClosedError
from stepwell.runtime.system import SystemRuntime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from types import TracebackType

    from stepwell.app import Durable
    from stepwell.engine.fleet.worker import Worker
    from stepwell.reading.explanations import Explanation
    from stepwell.reading.links import AnswerLink
    from stepwell.reading.records import Entry, ResumeResult, RunSnapshot, RunStatus, SchemaStatus, StartResult
    from stepwell.runtime.portal import LoopFactory
    from stepwell.workflow.builder import Workflow
    from stepwell.workflow.context import In
    from stepwell.workflow.durations import Duration

T = TypeVar("T")
_Started: TypeAlias = "list[StartResult]"
_Runs: TypeAlias = "list[RunSnapshot]"
_Entries: TypeAlias = "list[Entry]"
"""Named here, since inside the class `list` is a method."""


class BlockingDurable:
    """The calls of an app without `await`, for WSGI, scripts and plain handlers; made by `Durable.blocking`.

    Use it as a context manager, or between `open` and `close`. It may be called from many threads at once. Behind it is
    one event loop in one thread, in which the app itself is entered. Each method has the parameters, the return value
    and the errors of the `Durable` method of its name. In addition each raises DurableError: in a thread in which an
    event loop runs, where the call must be awaited instead; before `open` and after `close`; and where the face was
    closed while the call was in flight, which may then have been done or not. Ctrl-C cancels the call.

    In a forked child process the first call opens an event loop and connections of its own. What the parent has open
    stays the parent's, workers included.
    """

    def __init__(self, app: Durable, *, loop_factory: LoopFactory | None = None) -> None:
        self._app = app
        self._portals = _Portals(app, SystemRuntime(), loop_factory)

    def __repr__(self) -> str:
        return f"<BlockingDurable of {self._app!r}>"

    @property
    def app(self) -> Durable:
        """The app behind it, for what needs no `await`: `register`, `signal_url`, its properties."""
        return self._app

    def open(self) -> Self:
        """Opens the store, in an event loop in a thread of its own, and returns itself.

        What is still open when the process exits is closed. Raises DurableError if it or the app is open already, and
        StoreUnavailableError and SchemaError as entering the app does.
        """
        self._portals.open(at_once=True)
        return self

    def close(self) -> None:
        """Stops the workers inside, with their `grace`, and closes the store; does nothing if it is not open.

        `result` calls that wait raise DurableError at once; other calls in flight return or raise an error.
        """
        self._portals.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self.close()

    @overload
    def start(
        self, workflow: Workflow[In], input: In, *, key: str | None = None, delay: Duration | None = None
    ) -> StartResult: ...
    @overload
    def start(
        self, workflow: Workflow[None], *, key: str | None = None, delay: Duration | None = None
    ) -> StartResult: ...
    @overload
    def start(
        self, workflow: str, input: Any = None, *, key: str | None = None, delay: Duration | None = None
    ) -> StartResult: ...
    def start(
        self,
        workflow: Workflow[Any] | str,
        input: Any = None,
        *,
        key: str | None = None,
        delay: Duration | None = None,
    ) -> StartResult:
        """As `Durable.start`."""
        return self._portals.call(lambda: self._app.start(workflow, input, key=key, delay=delay))

    def start_many(
        self,
        workflow: Workflow[Any] | str,
        inputs: Sequence[Any],
        *,
        keys: Sequence[str | None] | None = None,
        delay: Duration | None = None,
    ) -> _Started:
        """As `Durable.start_many`."""
        return self._portals.call(lambda: self._app.start_many(workflow, inputs, keys=keys, delay=delay))

    @overload
    def run(
        self, workflow: Workflow[In], input: In, *, key: str | None = None, timeout: Duration | None = None
    ) -> dict[str, Any]: ...
    @overload
    def run(
        self, workflow: Workflow[None], *, key: str | None = None, timeout: Duration | None = None
    ) -> dict[str, Any]: ...
    @overload
    def run(
        self, workflow: str, input: Any = None, *, key: str | None = None, timeout: Duration | None = None
    ) -> dict[str, Any]: ...
    def run(
        self,
        workflow: Workflow[Any] | str,
        input: Any = None,
        *,
        key: str | None = None,
        timeout: Duration | None = None,
    ) -> dict[str, Any]:
        """As `Durable.run`."""
        return self._portals.call(lambda: self._app.run(workflow, input, key=key, timeout=timeout))

    def result(self, run_id: str, timeout: Duration | None = None) -> dict[str, Any]:
        """As `Durable.result`."""
        return self._portals.call(lambda: self._app.result(run_id, timeout))

    def resume(self, run_id: str, signal: str, data: Any = None, *, key: str | None = None) -> ResumeResult:
        """As `Durable.resume`."""
        return self._portals.call(lambda: self._app.resume(run_id, signal, data, key=key))

    def signal(self, run_id: str, name: str, data: Any = None, *, key: str | None = None) -> ResumeResult:
        """As `Durable.signal`."""
        return self._portals.call(lambda: self._app.signal(run_id, name, data, key=key))

    def read_link(self, token: str) -> AnswerLink:
        """As `Durable.read_link`."""
        return self._portals.call(lambda: self._app.read_link(token))

    def answer_link(self, token: str) -> AnswerLink:
        """As `Durable.answer_link`."""
        return self._portals.call(lambda: self._app.answer_link(token))

    def expected_signals(self, run_id: str) -> tuple[str, ...]:
        """As `Durable.expected_signals`."""
        return self._portals.call(lambda: self._app.expected_signals(run_id))

    def redeliver(self, run_id: str, entry: Entry | int) -> ResumeResult:
        """As `Durable.redeliver`."""
        return self._portals.call(lambda: self._app.redeliver(run_id, entry))

    def status(self, run_id: str) -> RunSnapshot:
        """As `Durable.status`."""
        return self._portals.call(lambda: self._app.status(run_id))

    def explain(self, run_id: str) -> Explanation:
        """As `Durable.explain`."""
        return self._portals.call(lambda: self._app.explain(run_id))

    def explain_many(self, run_ids: Iterable[str]) -> dict[str, Explanation]:
        """As `Durable.explain_many`."""
        return self._portals.call(lambda: self._app.explain_many(run_ids))

    def list(
        self,
        *,
        status: RunStatus | str | None = None,
        workflow: Workflow[Any] | str | None = None,
        key: str | None = None,
        parent_run_id: str | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> _Runs:
        """As `Durable.list`."""
        return self._portals.call(
            lambda: self._app.list(
                status=status, workflow=workflow, key=key, parent_run_id=parent_run_id, limit=limit, before=before
            )
        )

    def journal(self, run_id: str) -> _Entries:
        """As `Durable.journal`."""
        return self._portals.call(lambda: self._app.journal(run_id))

    def cancel(self, run_id: str, *, compensate: bool = False) -> None:
        """As `Durable.cancel`."""
        self._portals.call(lambda: self._app.cancel(run_id, compensate=compensate))

    def recover(self) -> int:
        """As `Durable.recover`."""
        return self._portals.call(self._app.recover)

    def ensure_tables(self) -> None:
        """As `Durable.ensure_tables`."""
        self._portals.call(self._app.ensure_tables)

    def schema_status(self) -> SchemaStatus:
        """As `Durable.schema_status`."""
        return self._portals.call(self._app.schema_status)

    def worker(
        self,
        *,
        concurrency: int = 100,
        threads: int = 32,
        grace: Duration = 10,
        queues: Sequence[str] | None = None,
    ) -> AbstractContextManager[Worker]:
        """As `Durable.worker`; enter it with `with`. Its async handlers run in the event loop behind this face."""

        async def made() -> Any:
            return self._app.worker(concurrency=concurrency, threads=threads, grace=grace, queues=queues)

        return _BlockingWorker(self._portals, self._portals.call(made))


class _Portals:
    """The portal of this process, in which the app is entered: one at a time, and in a forked child another one."""

    def __init__(self, app: Durable, runtime: SystemRuntime, loop_factory: LoopFactory | None) -> None:
        self._app = app
        self._runtime = runtime
        self._loop_factory = loop_factory
        self._is_open = False
        self._portal: Portal | None = None
        self._locks: dict[str, threading.Lock] = {}
        self._inherited: list[Portal] = []
        """A parent's, never collected: what an event loop closes is shared with the parent's."""

    def open(self, *, at_once: bool) -> None:
        """Allows calls; enters the app `at_once`, or by the first call."""
        if at_once:
            _refuse_in_event_loop()
        with self._lock:
            if self._is_open:
                raise DurableError("This BlockingDurable is open already: all threads of a process can share it.")
            if at_once:
                self._portal = self._begun()
            self._is_open = True

    def close(self) -> None:
        """Leaves the app where this process has entered it, and allows no more calls."""
        _refuse_in_event_loop()
        with self._lock:
            self._is_open = False
            portal, self._portal = self._portal, None
        if portal is None or not self._is_own(portal):
            return
        atexit.unregister(self._close_at_exit)
        try:
            portal.call(self._app.close)
        finally:
            portal.end()

    def call(self, make: Callable[[], Awaitable[T]]) -> T:
        """What the awaitable gives, in the event loop of this process."""
        _refuse_in_event_loop()
        portal = self._portal
        if portal is None or not self._is_own(portal):
            with self._lock:
                portal = self._opened()
        try:
            return portal.call(make)
        except PortalClosedError:
            raise DurableError(
                "This BlockingDurable was closed while a call was in flight, which may have been done or not."
            ) from None

    @property
    def process(self) -> str:
        """Names this process, and no other."""
        return self._runtime.process

    @property
    def _lock(self) -> threading.Lock:
        """Held while it opens or is closed. A fork copies a lock as it stands: so each process has its own."""
        return self._locks.setdefault(self.process, threading.Lock())

    def _is_own(self, portal: Portal) -> bool:
        return portal.process == self.process

    def _opened(self) -> Portal:
        """The portal of this process, opened where a parent process or nothing has opened one."""
        if not self._is_open:
            raise DurableError(
                "This BlockingDurable is not open. "
                "Use it inside `with app.blocking() as shop:`, or between open() and close()."
            )
        if self._portal is None or not self._is_own(self._portal):
            self._inherited += [] if self._portal is None else [self._portal]
            self._portal = self._begun()
        return self._portal

    def _begun(self) -> Portal:
        """A portal in which the app is entered."""
        portal = Portal(self._runtime, self._loop_factory)
        try:
            portal.call(self._app.open)
        except BaseException:
            portal.end()
            raise
        atexit.register(self._close_at_exit)
        return portal

    def _close_at_exit(self) -> None:
        """Closes the app of this process; its thread is left to the exit, which starts and joins no threads."""
        portal = self._portal
        if portal is not None and self._is_own(portal):
            with suppress(DurableError, PortalClosedError):
                portal.call(self._app.close)


class _BlockingWorker:
    """A worker that is entered and left in the event loop behind a blocking face."""

    def __init__(self, portals: _Portals, worker: AbstractAsyncContextManager[Worker]) -> None:
        self._portals = portals
        self._worker = worker
        self._process = portals.process

    def __enter__(self) -> Worker:
        return self._portals.call(self._worker.__aenter__)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        if self._process != self._portals.process:  # a forked child leaves the block: the worker is its parent's
            return
        try:
            self._portals.call(lambda: self._worker.__aexit__(kind, error, frames))
        except DurableError:
            if error is None:  # else what is being raised already tells more
                raise


def _refuse_in_event_loop() -> None:
    """Raises DurableError where a call would block a running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise DurableError(
        "A blocking call would stop the event loop that runs in this thread. "
        "Await the same call of the Durable instead: `await app.start(…)`, inside `async with Durable(…) as app:`."
    )
