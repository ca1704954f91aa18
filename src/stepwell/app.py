"""`Durable`: puts store, engine and reading together, and is what users call."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, overload

from stepwell.blocking import BlockingDurable
from stepwell.core.registry import Registry
from stepwell.engine.arguments import (
    checked_count,
    checked_duration,
    checked_file_mode,
    checked_key,
    checked_positive_duration,
    checked_run_id,
)
from stepwell.engine.driving.inline import InlineRunner
from stepwell.engine.driving.sub_steps import checked_on_drift
from stepwell.engine.driving.telling import tell_canceled
from stepwell.engine.fleet.app_session import AppSession, not_entered
from stepwell.engine.fleet.events import Events
from stepwell.engine.fleet.lanes import Lanes
from stepwell.engine.fleet.payloads import Payloads
from stepwell.engine.fleet.stranded import free_stranded
from stepwell.engine.fleet.waiters import Waiters
from stepwell.engine.fleet.wakeup import Wakeup
from stepwell.engine.fleet.worker import Worker
from stepwell.engine.logging_observer import LoggingObserver
from stepwell.engine.observer import Observer, Observers
from stepwell.engine.settings import Settings
from stepwell.errors import DefinitionError, DurableError, PayloadError, RunNotFoundError
from stepwell.reading.entries import entries_of
from stepwell.reading.explain import explained
from stepwell.reading.links import (
    KEY_PREFIX,
    AnswerLink,
    Link,
    LinkSigner,
    LinkStatus,
    checked_base,
    described,
    new_link,
    status_with,
)
from stepwell.reading.records import Entry, ResumeResult, RunSnapshot, RunStatus, SchemaStatus, StartResult
from stepwell.reading.results import results_of, start_result
from stepwell.reading.snapshots import listed, snapshot_of, status_of
from stepwell.runtime.system import SystemRuntime
from stepwell.store.codec import MAX_VALUE_BYTES, Codec
from stepwell.store.readings import PlanReading, Readings
from stepwell.store.records import Filter, NewRun
from stepwell.store.urls import without_password
from stepwell.store_choice import chosen_store, existing_store, store_for, store_of_child
from stepwell.workflow.annotations import UNSET
from stepwell.workflow.builder import Workflow
from stepwell.workflow.checks import checked_name
from stepwell.workflow.context import In, Results
from stepwell.workflow.declared import DeclaredType, FromJson
from stepwell.workflow.durations import latest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from stepwell.reading.explanations import Explanation
    from stepwell.runtime.portal import LoopFactory
    from stepwell.runtime.protocol import Runtime
    from stepwell.store.protocol import Store
    from stepwell.workflow.durations import Duration

_Started: TypeAlias = list[StartResult]
_Runs: TypeAlias = list[RunSnapshot]
_Entries: TypeAlias = list[Entry]
_Statements: TypeAlias = list[str]
"""Named here, since inside the class `list` is a method."""


@overload
def durable(name: str) -> Workflow[Any]: ...
@overload
def durable(name: str, *, input: type[In]) -> Workflow[In]: ...
@overload
def durable(name: str, *, input: Any) -> Workflow[Any]: ...
def durable(name: str, *, input: Any = UNSET) -> Workflow[Any]:
    """Returns a new workflow without nodes; its builder methods add them.

    - `name`: up to 100 ASCII letters, digits and `_ - . :`.
    - `input`: the type of its runs' input; without one any JSON value.

    Raises DefinitionError for any other name, and for a type that cannot be converted to JSON and back.
    """
    return Workflow(name, InlineRunner(), input)


class Durable:
    """A store and the workflows that it runs. Enter it with `async with` to start, signal, read and work on runs.

    Durations are a `timedelta` or seconds.

    - `url`: `sqlite:///file.db`, `sqlite://` (in memory) or `postgresql://user@host/database`.
    - `workflows`: each is registered, see `register`.
    - `queue`: the name of the queue into which runs are started and from which workers take them.
    - `step_timeout`: the time limit of an attempt whose node sets no `timeout`.
    - `max_crashes`: a node fails if this many workers died during it with nothing of the run journaled in between.
    - `lease`: how long a worker may be silent before other workers may take over its runs.
    - `max_value_bytes`: the largest size of a value as JSON, in bytes.
    - `file_mode`: the permissions of the files that a store on SQLite creates.
    - `on_drift`: what happens when a sub-step (`Context.run`) comes with other arguments than its value was journaled
      with: `warn` logs it, `fail` raises DefinitionError in the handler, `ignore` does nothing.
    - `observers`: objects that receive events of the app's workers, see `Observer`.
    - `signing_keys`: secrets, as strings or bytes, for the links of `signal_url`: the first signs, all of them verify.
    - `store`, `runtime`: for tests, without a promise between releases. A store instead of a `url`; the clock, chance,
      ids, sleep and threads of the store and the engine.

    Raises DefinitionError for a parameter that is not accepted, and for both `url` and `store` or neither. Entering
    creates or upgrades the tables and raises StoreUnavailableError or SchemaError.
    """

    def __init__(
        self,
        url: str | None = None,
        workflows: Iterable[Workflow[Any]] = (),
        *,
        queue: str = "durable",
        step_timeout: Duration = timedelta(minutes=10),
        max_crashes: int = 5,
        lease: Duration = timedelta(seconds=10),
        max_value_bytes: int = MAX_VALUE_BYTES,
        file_mode: int = 0o600,
        on_drift: Literal["warn", "fail", "ignore"] = "warn",
        observers: Iterable[Observer] = (),
        signing_keys: Iterable[str | bytes] = (),
        store: Store | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        self._runtime: Runtime = SystemRuntime() if runtime is None else runtime
        self._settings = Settings(
            checked_name(queue, "Durable: queue"),
            checked_positive_duration("step_timeout", step_timeout),
            checked_positive_duration("lease", lease),
            checked_count("max_crashes", max_crashes),
            Codec(checked_count("max_value_bytes", max_value_bytes)),
            checked_on_drift(on_drift),
            Observers([*([LoggingObserver()] if self._runtime.logs_runs else ()), *observers]),
        )
        self._signer = LinkSigner(signing_keys)
        self._file_mode = checked_file_mode(file_mode)
        self._store = chosen_store(url, store, self._runtime, self._settings.codec, self._file_mode)
        self.url: str = self._store.url
        self._creates = True
        self._registry = Registry(workflows)
        self._readings = Readings(self._settings.codec)
        self._session: AppSession | None = None
        self._entering_in: str | None = None
        self._inherited: list[object] = []

    def __repr__(self) -> str:
        return f"<Durable {self.safe_url}: {', '.join(self._registry.names) or 'no workflows'}>"

    @property
    def safe_url(self) -> str:
        """The store's URL, without its password."""
        return without_password(self.url)

    @property
    def shared(self) -> bool:
        """Whether other processes can open the store; False for a store in memory."""
        return self._store.shared

    @property
    def workflows(self) -> tuple[str, ...]:
        """The names of the registered workflows, sorted."""
        return self._registry.names

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        if self._session is None:
            raise not_entered()
        await self.close()

    async def open(self) -> Self:
        """Opens the store and enters the app, as `async with` does, until `close`; returns the app.

        The app can be opened again after it was closed, and in a forked child process. Raises DurableError if it is
        open, StoreUnavailableError and SchemaError.
        """
        process = self._runtime.process
        entered_in = self._entering_in if self._session is None else self._session.process
        if entered_in not in {None, process}:
            self._leave_to_parent()
        if self._session is not None or self._entering_in == process:
            raise DurableError("This Durable is entered already. Make another one for the same store.")
        self._entering_in = process
        try:
            if self._creates:
                await self._store.migrate()
            await self._store.open()
        finally:
            self._entering_in = None
        self._events = Events()
        self._wakeup = Wakeup(self._store, self._runtime, self._events)
        self._lanes = Lanes(self._store, self._registry)
        self._waiters = Waiters(self._store, self._events, self._wakeup)
        self._session = AppSession(self._runtime, self._store, self._waiters)
        return self

    async def close(self) -> None:
        """Leaves the app, as `async with` does: stops its workers and closes the store. Does nothing if it is not open.

        Raises DurableError in another event loop or process than the one in which it was opened.
        """
        if self._session is None:
            return
        self._session.check()
        try:
            await self._session.close()
        finally:
            self._session = None

    def blocking(self, *, loop_factory: LoopFactory | None = None) -> BlockingDurable:
        """Returns the blocking face of this app: the same calls without `await`, from any thread.

        Open it with `with`, or with its `open` and `close`. That enters this app, in an event loop in a thread of its
        own; leave an app that is entered already first. `loop_factory`: what makes that event loop, for instance
        `uvloop.new_event_loop`; None: asyncio does.
        """
        return BlockingDurable(self, loop_factory=loop_factory)

    async def ensure_tables(self) -> None:
        """Creates or upgrades the store's tables, as entering does; the app need not be entered.

        Raises StoreUnavailableError and SchemaError.
        """
        self._check_place()
        await self._store.migrate()

    async def schema_status(self) -> SchemaStatus:
        """Returns the version of the store's tables and what they lack. Changes nothing; the app need not be entered.

        Raises StoreUnavailableError.
        """
        self._check_place()
        version, pending = await self._store.schema()
        return SchemaStatus(version, self._store.latest, pending)

    def schema_sql(self, after: int = 0) -> _Statements:
        """Returns the SQL statements that `ensure_tables` runs; run them in one transaction.

        `after`: the current version of the tables; 0 if there are none. Does not connect to the store. Raises
        DefinitionError for a version that this stepwell does not know.
        """
        if not 0 <= after <= self._store.latest:
            raise DefinitionError(f"The version of the tables must be from 0 to {self._store.latest}, got {after!r}.")
        return self._store.statements(after)

    def at(self, url: str) -> Durable:
        """Returns a new Durable, not entered, with the same workflows and options for the store that `url` names."""
        return self._over(store_for(url, self._runtime, self._settings.codec, self._file_mode))

    def existing(self, *, read_only: bool = False) -> Durable:
        """Returns a new Durable, not entered, with the same workflows and options for the same, existing store.

        Entering it creates and upgrades nothing: it raises StoreUnavailableError if the file is missing and
        SchemaError if the tables are. With `read_only` a file is opened for reading only, and calls that write raise
        StoreUnavailableError. A store in memory is always a new one.
        """
        if not self.shared:
            return self._over(store_for("sqlite://", self._runtime, self._settings.codec))
        return self._over(existing_store(self._store, self._runtime, read_only=read_only), creates=False)

    def workflow(self, name: str) -> Workflow[Any]:
        """Returns the registered workflow of that name. Raises WorkflowNotRegisteredError."""
        return self._registry.get_workflow(name)

    def schemas(self, workflow: Workflow[Any] | str) -> dict[str, Any]:
        """Returns the JSON schemas of what a registered workflow declares; what it does not declare is left out.

        `input` is a schema; `results`, `payloads`, `snapshots` and `resumes` have a schema for each name. Raises
        WorkflowNotRegisteredError.
        """
        return self._registry.get_plan(workflow).types.schemas

    def register(self, workflow: Workflow[Any]) -> None:
        """Adds a workflow and closes it: nothing can be added to it any more. Running workers serve it at once.

        Raises DefinitionError for a second workflow of that name.
        """
        self._registry.add(workflow)

    @overload
    async def start(
        self, workflow: Workflow[In], input: In, *, key: str | None = None, delay: Duration | None = None
    ) -> StartResult: ...
    @overload
    async def start(
        self, workflow: Workflow[None], *, key: str | None = None, delay: Duration | None = None
    ) -> StartResult: ...
    @overload
    async def start(
        self, workflow: str, input: Any = None, *, key: str | None = None, delay: Duration | None = None
    ) -> StartResult: ...
    async def start(
        self,
        workflow: Workflow[Any] | str,
        input: Any = None,
        *,
        key: str | None = None,
        delay: Duration | None = None,
    ) -> StartResult:
        """Writes a run and makes it due, in one transaction, and returns without waiting for the run.

        - `input`: a value of the type that the workflow declares, or JSON.
        - `key`: 1 to 500 characters. A second start of the same workflow and key starts nothing and returns the first
          run as it is, with `created` False, as long as that run is stored.
        - `delay`: how long until the run is due.

        Raises WorkflowNotRegisteredError and PayloadError: nothing was started. Raises StoreUnavailableError: nothing
        was started, or it was and the answer was lost; repeating it is safe with a `key`.
        """
        return (await self._start(workflow, {"input": input}, [key], delay))[0]

    async def start_many(
        self,
        workflow: Workflow[Any] | str,
        inputs: Sequence[Any],
        *,
        keys: Sequence[str | None] | None = None,
        delay: Duration | None = None,
    ) -> _Started:
        """Starts a run for each input, all in one transaction; returns their results in the order of the inputs.

        `keys`: None, or a key or None for each input; the same key twice is one run. Otherwise as `start`.
        """
        given = {f"inputs[{at}]": value for at, value in enumerate(inputs)}
        return await self._start(workflow, given, [None] * len(given) if keys is None else keys, delay)

    @overload
    async def run(
        self, workflow: Workflow[In], input: In, *, key: str | None = None, timeout: Duration | None = None
    ) -> dict[str, Any]: ...
    @overload
    async def run(
        self, workflow: Workflow[None], *, key: str | None = None, timeout: Duration | None = None
    ) -> dict[str, Any]: ...
    @overload
    async def run(
        self, workflow: str, input: Any = None, *, key: str | None = None, timeout: Duration | None = None
    ) -> dict[str, Any]: ...
    async def run(
        self,
        workflow: Workflow[Any] | str,
        input: Any = None,
        *,
        key: str | None = None,
        timeout: Duration | None = None,
    ) -> dict[str, Any]:
        """Starts a run, waits until it has ended, in any process, and returns its results by name.

        The parameters and errors are those of `start` and `result`. A `key` that is known waits for the run that has
        it. After `timeout`, or if this call is cancelled, the run continues.
        """
        (started,) = await self._start(workflow, {"input": input}, [key], None)
        return await self.result(started.run_id, timeout)

    async def resume(self, run_id: str, signal: str, data: Any = None, *, key: str | None = None) -> ResumeResult:
        """Delivers a signal to a run that waits for it now; otherwise `accepted` is False and nothing changes.

        - `data`: JSON, or a value of the type that a wait or suspended work of that name declares. Where the run's
          workflow is registered, data that fits none of them is refused here with PayloadError, and nothing changes.
        - `key`: if the run has accepted it before, for any signal, nothing changes and `accepted` is True.

        Raises RunNotFoundError, PayloadError and StoreUnavailableError.
        """
        return await self._deliver(run_id, signal, data, key, waiting_only=True)

    async def signal(self, run_id: str, name: str, data: Any = None, *, key: str | None = None) -> ResumeResult:
        """Delivers a signal, which is stored until the run waits for it; refused only if the run has ended.

        The parameters and errors are those of `resume`. `expected` is False if no node of the run's workflow can use
        a signal of that name.
        """
        return await self._deliver(run_id, name, data, key, waiting_only=False)

    async def redeliver(self, run_id: str, entry: Entry | int) -> ResumeResult:
        """Delivers the payload of a `refused` entry once more, to a run whose workflow can take it now.

        `entry`: an entry of the run's journal with the status `refused`, or its `seq`. Each refused entry is delivered
        once more at most; a payload that is refused again has an entry of its own. Raises DefinitionError for another
        entry, RunNotFoundError and StoreUnavailableError.
        """
        seq = entry if isinstance(entry, int) else entry.seq
        payloads = Payloads(self._registry, self._lanes, self._settings.codec, self._settings.queue)
        refused = await payloads.refused(self._open_store().reader, checked_run_id(run_id), seq)
        key = f"redelivered/{seq}"
        return await self._deliver_value(run_id, refused.signal, refused.value, key, waiting_only=False)

    def signal_url(
        self,
        base: str,
        run_id: str,
        signal: str,
        *,
        data: Any = None,
        key: str | None = None,
        expires: Duration = timedelta(days=7),
    ) -> str:
        """Returns a signed link, `{base}/answer/{token}`, by which a person without an account can signal the run once.

        All links of one run, signal and key share one answer: the first that is submitted delivers its data, with the
        signal key `url/<key>`, and the others tell when and by which link the run was answered. Needs no store.

        - `base`: the URL or path under which the pages are served, see [webhooks.md](webhooks.md).
        - `data`: JSON, or a value of the type that a registered workflow declares for the signal's payload. It becomes
          part of the link, so it must be small, and those who have the link can read it.
        - `key`: the signal's name if None. In a loop give another key for each iteration.
        - `expires`: how long the link can be used.

        Raises DefinitionError if the app has no `signing_keys` or a parameter is not accepted, and PayloadError.
        """
        named = signal if checked_key(key) is None else str(key)
        checked_key(KEY_PREFIX + named)
        until = latest(self._runtime.wall() + checked_duration("expires", expires))
        value = self._link_value(signal, data)
        link = new_link(checked_run_id(run_id), checked_name(signal, "A signal's name"), named, value, until)
        return f"{checked_base(base)}/answer/{self._signer.sign(link)}"

    async def read_link(self, token: str) -> AnswerLink:
        """Returns what a link of `signal_url` is for and what became of its answer. Delivers nothing.

        `token`: the last part of the URL. Raises StoreUnavailableError.
        """
        link = self._signer.verified(token)
        if link is None or link.expires_at <= self._runtime.wall():
            return self._unusable(link)
        reader = self._open_store().reader
        run_status = (await reader.ended([link.run_id])).get(link.run_id, "running")
        if run_status is None:
            return AnswerLink(LinkStatus.UNKNOWN)
        message = await reader.keyed_message(link.run_id, link.signal_key)
        return described(link, self._settings.codec, status_with(link, message, run_status), message)

    async def answer_link(self, token: str) -> AnswerLink:
        """Delivers the answer of a link of `signal_url`, if it is the first, and returns what became of it.

        `token`: the last part of the URL. Raises PayloadError if the run does not accept the data, and
        StoreUnavailableError; repeating it is safe.
        """
        link = self._signer.verified(token)
        if link is None or link.expires_at <= self._runtime.wall():
            return self._unusable(link)
        data = FromJson(self._settings.codec.decode(bytes(link.value)))
        try:
            answer = await self._deliver(
                link.run_id, link.signal, data, link.signal_key, waiting_only=False, receipt=link.receipt
            )
        except RunNotFoundError:
            return AnswerLink(LinkStatus.UNKNOWN)
        message = await self._store.reader.keyed_message(link.run_id, link.signal_key)
        return described(link, self._settings.codec, status_with(link, message, answer.status), message)

    async def expected_signals(self, run_id: str) -> tuple[str, ...]:
        """Returns the signals that the run's workflow can use: those of its waits, then the names of what may suspend.

        Raises RunNotFoundError and StoreUnavailableError.
        """
        self._open_store()
        return await self._lanes.expected_signals(checked_run_id(run_id))

    async def status(self, run_id: str) -> RunSnapshot:
        """Returns a run as it is now, with its children. Raises RunNotFoundError and StoreUnavailableError."""
        stored = await self._open_store().reader.snapshot(checked_run_id(run_id))
        if stored is None:
            raise RunNotFoundError(run_id)
        return snapshot_of(stored, self._reading_of)

    async def explain(self, run_id: str) -> Explanation:
        """Returns why a run does not move and what would move it. Raises RunNotFoundError and StoreUnavailableError."""
        found = await self.explain_many([run_id])
        if run_id not in found:
            raise RunNotFoundError(run_id)
        return found[run_id]

    async def explain_many(self, run_ids: Iterable[str]) -> dict[str, Explanation]:
        """Returns the explanations of many runs by their ids, without a query for each; unknown ids are left out."""
        ids = [checked_run_id(run_id) for run_id in run_ids]
        return await explained(self._open_store(), ids, self._settings.max_crashes)

    async def list(
        self,
        *,
        status: RunStatus | str | None = None,
        workflow: Workflow[Any] | str | None = None,
        key: str | None = None,
        parent_run_id: str | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> _Runs:
        """Returns one page of runs, newest first; `input`, `results` and `children` are left out (None).

        - `status`, `workflow`, `key`, `parent_run_id`: only runs that have them.
        - `limit`: the most runs of a page, from 1.
        - `before`: the `run_id` of the last run of the page before.

        Raises DefinitionError for an unknown status, and StoreUnavailableError.
        """
        if status is not None and status not in set(RunStatus):
            raise DefinitionError(f"list: status must be one of {', '.join(RunStatus)}, got {status!r}.")
        name = workflow.name if isinstance(workflow, Workflow) else workflow
        wanted = Filter(
            None if status is None else str(status), name, key, parent_run_id, checked_count("limit", limit), before
        )
        return listed(await self._open_store().reader.page(wanted))

    async def journal(self, run_id: str) -> _Entries:
        """Returns the journal entries of a run, in order. Raises RunNotFoundError and StoreUnavailableError."""
        rows = await self._open_store().reader.journal(checked_run_id(run_id))
        if rows is None:
            raise RunNotFoundError(run_id)
        return entries_of(run_id, rows)

    async def cancel(self, run_id: str, *, compensate: bool = False) -> None:
        """Cancels a run and its descendants that have not ended; a run that has ended does not change.

        Async handlers in flight get a CancelledError, and none of them can write any more. Nothing is compensated,
        unless with `compensate`: then the cancel is only requested, and the call returns at once. A worker cancels what
        is in flight and waits for the end of async handlers. Then the run's live descendants are compensated, deepest
        first, and then the run; what was in flight counts as attempted (see `undo`). It ends as `canceled`. On a run
        that is compensating already, `compensate` changes nothing; a plain cancel stops it. Raises RunNotFoundError
        and StoreUnavailableError.
        """
        if compensate:
            requested = await self._open_store().request_cancel(checked_run_id(run_id))
            if requested is None:
                raise RunNotFoundError(run_id)
            self._events.cancel_requested(requested)
            self._events.due()
            return
        canceled = await self._open_store().cancel(checked_run_id(run_id))
        if canceled is None:
            raise RunNotFoundError(run_id)
        if canceled:
            self._events.canceled(canceled)
            self._events.due()
            tell_canceled(self._settings.observers, canceled, self._runtime.wall())

    async def recover(self) -> int:
        """Makes due every run that should move but that nothing would move, and returns how many: normally 0.

        Raises StoreUnavailableError.
        """
        freed = await free_stranded(self._open_store())
        if freed:
            self._events.due()
        return freed

    async def result(self, run_id: str, timeout: Duration | None = None) -> dict[str, Any]:
        """Waits until the run has ended, in any process, and returns its results by name.

        `timeout`: how long to wait; None: without a limit. Raises RunFailedError, RunCanceledError, RunNotFoundError,
        JournalError if the stored rows of the run are damaged, and TimeoutError after `timeout`; the run continues.
        """
        reader = self._open_store().reader
        limit = None if timeout is None else checked_duration("timeout", timeout) / 1_000_000
        known = await self._waiters.ended(checked_run_id(run_id), limit)
        if known is not None:
            reading = self._readings.of(self._registry.get_plan(known.workflow))
            return dict(Results(known.results, reading, run_id, None))
        stored = await reader.result(run_id)
        if stored is None:
            raise RunNotFoundError(run_id)
        return results_of(snapshot_of(stored, self._reading_of))

    def worker(
        self,
        *,
        concurrency: int = 100,
        threads: int = 32,
        grace: Duration = 10,
        queues: Sequence[str] | None = None,
    ) -> AbstractAsyncContextManager[Worker]:
        """Returns a worker of this process; enter it with `async with` to claim and run runs until you leave it.

        - `concurrency`: the most handlers and compensators in flight at once.
        - `threads`: the most threads in which plain handlers run.
        - `grace`: how long handlers may go on once it is left. Leaving claims nothing more, waits as long, cancels what
          has not ended, and gives the runs back.
        - `queues`: the names of the queues that it serves; None: the app's.

        Raises DefinitionError, and WorkflowNotRegisteredError for a child workflow that is not registered. Entering
        raises StoreUnavailableError.
        """
        session = self._opened()
        self._registry.check_children()
        chosen = (self._settings.queue,) if queues is None else tuple(checked_name(one, "A queue") for one in queues)
        if not chosen:
            raise DefinitionError("worker: queues must name at least one queue, got none.")
        return Worker(
            session=session,
            store=self._store,
            runtime=self._runtime,
            settings=self._settings,
            lanes=self._lanes,
            events=self._events,
            wakeup=self._wakeup,
            concurrency=checked_count("concurrency", concurrency),
            threads=checked_count("threads", threads),
            grace=checked_duration("grace", grace) / 1_000_000,
            queues=chosen,
        )

    async def _start(
        self,
        workflow: Workflow[Any] | str,
        inputs: Mapping[str, Any],
        keys: Sequence[str | None],
        delay: Duration | None,
    ) -> _Started:
        """`inputs`: by their places, as errors name them."""
        self._open_store()
        plan = self._registry.get_plan(workflow)
        values = [self._settings.codec.encode_given(value, place, plan.types.input) for place, value in inputs.items()]
        named = [checked_key(key) for key in keys]
        if len(named) != len(values):
            raise DefinitionError(f"start_many: {len(values)} inputs need {len(values)} keys, got {len(named)}.")
        pause = 0 if delay is None else checked_duration("delay", delay)
        if not values:
            return []
        runs = [
            NewRun(self._runtime.new_id(), 0, plan.name, value, key, pause)
            for value, key in zip(values, named, strict=True)
        ]
        started = await self._lanes.start(self._settings.queue, plan, runs)
        self._events.due()
        return [start_result(run, one) for run, one in zip(runs, started, strict=True)]

    def _link_value(self, signal: str, data: Any) -> bytes:
        """The data of a link as JSON; what is no JSON, by the first type declared for the signal that it fits."""
        try:
            return self._settings.codec.encode(data, "data")
        except PayloadError:
            for name in self._registry.names:
                declared = self._registry.get_plan(name).types.payloads.get(signal)
                if isinstance(declared, DeclaredType):
                    with suppress(PayloadError):
                        return self._settings.codec.encode(data, "data", declared)
            raise

    def _unusable(self, link: Link | None) -> AnswerLink:
        if link is None:
            return AnswerLink(LinkStatus.UNKNOWN)
        return described(link, self._settings.codec, LinkStatus.EXPIRED)

    async def _deliver(
        self, run_id: str, name: str, data: Any, key: str | None, *, waiting_only: bool, receipt: bytes | None = None
    ) -> ResumeResult:
        store = self._open_store()
        checked_name(name, "A signal's name")
        encoder = Payloads(self._registry, self._lanes, self._settings.codec, self._settings.queue)
        value = await encoder.encode(store.reader, checked_run_id(run_id), name, data)
        return await self._deliver_value(run_id, name, value, key, waiting_only=waiting_only, receipt=receipt)

    async def _deliver_value(
        self, run_id: str, name: str, value: bytes, key: str | None, *, waiting_only: bool, receipt: bytes | None = None
    ) -> ResumeResult:
        store = self._open_store()
        answer = await store.deliver(
            run_id, name, value, key=checked_key(key), waiting_only=waiting_only, receipt=receipt
        )
        if answer is None:
            raise RunNotFoundError(run_id)
        if answer.woken:
            self._events.due()
        elif answer.accepted:
            self._events.answered(run_id)
        expected = await self._lanes.expects(answer.lane, name)
        return ResumeResult(answer.accepted, status_of(run_id, answer.status), expected)

    def _reading_of(self, workflow: str) -> PlanReading | None:
        """How values are given back of a workflow that is registered; None for another."""
        return self._readings.of(self._registry.get_plan(workflow)) if workflow in self._registry else None

    def _over(self, store: Store, *, creates: bool = True) -> Durable:
        """The same workflows and options over that store; not entered."""
        workflows = (self.workflow(name) for name in self.workflows)
        other = Durable(workflows=workflows, file_mode=self._file_mode, store=store, runtime=self._runtime)
        other._settings, other._signer, other._creates = self._settings, self._signer, creates
        return other

    def _leave_to_parent(self) -> None:
        """Forgets what the process has opened from which this one was forked, and takes a store of its own.

        What was inherited is never collected: that would close sockets, polls and locks that the parent uses.
        """
        self._inherited.append(vars(self).copy())
        self._store, self._session, self._entering_in = store_of_child(self._store, self._runtime), None, None

    def _opened(self) -> AppSession:
        """The session of the app as it is entered; raises DurableError where it is not, or not from here."""
        if self._session is None:
            raise not_entered()
        self._session.check()
        return self._session

    def _open_store(self) -> Store:
        self._opened()
        return self._store

    def _check_place(self) -> None:
        if self._session is not None:
            self._session.check_place()
