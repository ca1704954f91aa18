"""One run of a workflow, undisturbed or with one death at a given place, and what it left behind."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from stepwell.core.statuses import ENDED
from stepwell.testing.calls import watched
from stepwell.testing.ends import end_of, text_of
from stepwell.testing.life import Life
from stepwell.testing.points import AFTER, BEFORE, FIRST_LINE, LAST_LINE, WAIT, Paths, commit_of, piece_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepwell.app import Durable
    from stepwell.reading.records import RunSnapshot
    from stepwell.store.records import Advance
    from stepwell.testing.bench import Bench
    from stepwell.testing.calls import Call
    from stepwell.testing.ends import End
    from stepwell.workflow.builder import Workflow

_MOST_TURNS = 10_000
_LOOK_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class RoundSetup:
    """The constants of every round: the workflow, its input, probe and reset."""

    workflow: Workflow
    workflows: tuple[Workflow, ...]
    input: Any
    fakes: Mapping[str, Any]
    signals: Mapping[str, Any]
    probe: Callable[[], Any] | None
    reset: Callable[[], Any] | None
    awaits: int
    options: Mapping[str, Any]

    async def make_new(self) -> None:
        """Restores the initial state outside the run."""
        if self.reset is not None:
            await _awaited(self.reset())

    async def view(self, paths: Paths) -> str:
        """The state outside the run, as the probe returns it."""
        return "" if self.probe is None else text_of(await _awaited(self.probe()), paths)


async def view_before(setup: RoundSetup) -> str | None:
    """The probe's state before the first run; None: there is no probe."""
    if setup.probe is None:
        return None
    await setup.make_new()
    return await setup.view(Paths())


class Round:
    """Runs the workflow once; with a `place`, its worker dies there, once."""

    def __init__(self, bench: Bench, setup: RoundSetup, queue: str, place: str | None) -> None:
        self.place = place
        self.places: dict[str, None] = {}
        self.pieces: Counter[str] = Counter[str]()
        self.has_died: bool = False
        self.paths: Paths = Paths()
        self._bench = bench
        self._setup = setup
        self._options = {**setup.options, "queue": queue}
        self._nodes = {one.name: tuple(node.name for node in one.nodes) for one in setup.workflows}
        self._workflow_of: dict[str, str] = {}
        self._threads: list[Call] = []
        self._calls: list[Call] = []
        self._lives: list[Life] = []
        self._stop = asyncio.Event()
        self._app: Durable | None = None
        self._worker_id = ""
        self._turns = 0
        self._living: asyncio.Task[Any]

    async def run(self) -> End:
        """Runs it to its end, and clears away the remains of dead workers."""
        await self._setup.make_new()
        client = self._bench.app(self._workflows(None), self._through_client, **self._options)
        await client.__aenter__()
        try:
            self._begin()
            run_id = (await client.start(self._setup.workflow.name, self._setup.input)).run_id
            stuck = await self._finish(client, run_id)
            if stuck is not None:
                await client.cancel(run_id)
            end = await self._ended(client, run_id, stuck)
            await self._leave()
        finally:
            for life in self._lives:
                await life.clear_away()
            await client.__aexit__(None, None, None)
        return end

    async def _finish(self, client: Durable, run_id: str) -> str | None:
        """Goes on until the run has ended; why it does not, if it does not."""
        while True:
            if self._living.done():
                self._living.result()
            if self._lives[-1].is_over:
                await self._expire()
                self._begin()
            elif self._bench.is_settled:
                snapshot = await client.status(run_id)
                if snapshot.status in ENDED:
                    return None
                if self._turns == _MOST_TURNS:
                    return f"it waited more than {_MOST_TURNS:,} times"
                self._turns += 1
                if not await self._let_pass(client):
                    return _why(snapshot)
            else:
                if self._app is not None and not self._bench.held:
                    self._app._events.due()
                if not await self._bench.news():
                    return f"nothing happened for {self._bench.patience:g} real seconds{await self._where(client)}"

    async def _where(self, client: Durable) -> str:
        """Which handlers of this life do not end; without one, at which nodes something else does not."""
        flying = [self.paths.of(call.run_id) + call.name for call in self._calls if not call.is_over]
        if flying:
            return f", in flight: {', '.join(dict.fromkeys(flying))}"
        held = [await client.status(run_id) for run_id in self._bench.held]
        return "".join(f" at {one.current_node} of {one.workflow_name}" for one in held)

    async def _let_pass(self, client: Durable) -> bool:
        """Delivers a signal that is waited for, or lets time pass until the next timer; False: neither is there."""
        for one in await client.list():
            names = [name for name in one.awaiting_signals if name in self._setup.signals]
            if one.run_id in self.paths.run_ids and names:
                await client.signal(one.run_id, names[0], self._setup.signals[names[0]])
                return True
        due = self._bench.next_due
        if due is not None:
            await self._bench.move(due)
        return due is not None

    def _begin(self) -> None:
        """A new worker process takes over."""
        life = Life(self._bench.changed.set)
        self._calls.clear()
        self._lives.append(life)
        app = self._bench.app(self._workflows(life), partial(self._through, life), **self._options)
        self._living = life.begin(self._live(app))
        self._living.add_done_callback(lambda _: self._bench.changed.set())

    async def _live(self, app: Durable) -> None:
        async with app, app.worker(grace=0):
            self._app = app
            self._bench.changed.set()
            await self._stop.wait()

    async def _expire(self) -> None:
        """Finds the dead worker dead, once what it had sent to the store, and its plain handlers, are at their end."""
        await self._bench.quiet()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._bench.patience):
                while not all(call.is_over for call in self._threads):  # noqa: ASYNC110  they end in threads, unheard
                    await asyncio.sleep(_LOOK_SECONDS)
        await self._bench.call("expire", (self._worker_id, None), {})

    async def _leave(self) -> None:
        if not self._lives[-1].is_over:
            self._stop.set()
            await self._living

    async def _ended(self, client: Durable, run_id: str, stuck: str | None) -> End:
        end = await end_of(client, run_id, {one.name: one for one in self._setup.workflows}, self.paths)
        end.view = await self._setup.view(self.paths)
        end.stuck, end.has_died = stuck, self.has_died
        end.places, end.pieces = list(self.places), self.pieces
        return end

    def _workflows(self, life: Life | None) -> list[Workflow]:
        return watched(self._setup.workflows, self._setup.fakes, _Eye(self, life))

    async def _through_client(self, verb: str, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if verb == "start":
            for new in given[0]:
                self._meet(new.run_id, None, None, new.workflow)
        return await self._bench.call(verb, given, named)

    async def _through(self, life: Life, verb: str, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """A verb of a worker's, which may be the last it ever asks for, or one whose answer it never hears."""
        if life.is_over:
            await life.die_here()
        if verb == "enlist":
            self._worker_id = given[0]
        if verb != "commit":
            return await self._bench.call(verb, given, named)
        advances: list[Advance] = given[1]
        whats = [self._commit(advance) for advance in advances]
        for what in whats:
            if self._is_here(BEFORE.format(what)):
                await life.die_here()
        answer = await self._bench.call(verb, given, named)
        for what, verdict in zip(whats, answer, strict=True):
            if verdict == "ok" and self._is_here(AFTER.format(what)):
                await life.die_here()
        return answer

    def _commit(self, advance: Advance) -> str:
        for new in advance.spawned:
            self._meet(new.run_id, new.parent_id, new.parent_node, new.workflow)
        return commit_of(advance, self._nodes.get(self._workflow_of.get(advance.run_id, ""), ()), self.paths)

    def _meet(self, run_id: str, parent_id: str | None, node: str | None, workflow: str) -> None:
        self.paths.add(run_id, parent_id, node)
        self._workflow_of[run_id] = workflow

    def _is_here(self, place: str) -> bool:
        """Notes that the place was reached; whether it is the one to die at, for the first time."""
        self.places[place] = None
        if place != self.place or self.has_died:
            return False
        self.has_died = True
        return True

    def enters(self, call: Call) -> bool:
        """A function is about to be called; whether to die."""
        piece = piece_of(call, self.paths)
        if self._is_here(FIRST_LINE.format(piece)):
            return True
        self.pieces[piece] += 1
        self._calls.append(call)
        return False

    def waits(self, call: Call, times: int) -> bool:
        """A function waits for something; whether to die."""
        if times > self._setup.awaits:
            return False
        return self._is_here(WAIT.format(times=times, piece=piece_of(call, self.paths)))

    def enters_plainly(self, call: Call) -> bool:
        """As `enters`, in a thread: the next life waits for its end."""
        is_here = self.enters(call)
        if not is_here:
            self._threads.append(call)
        return is_here

    def leaves(self, call: Call) -> bool:
        """A function has come to its end; whether to die."""
        return self._is_here(LAST_LINE.format(piece_of(call, self.paths)))


class _Eye:
    """Watches the calls of one life for its round."""

    def __init__(self, one: Round, life: Life | None) -> None:
        self._round = one
        self._life = life

    async def enters(self, call: Call) -> None:
        """May be as far as it comes."""
        if self._life is not None and self._round.enters(call):
            await self._life.die_here()

    async def leaves(self, call: Call) -> None:
        """As `enters`."""
        if self._life is not None and self._round.leaves(call):
            await self._life.die_here()

    def waits(self, call: Call, times: int) -> None:
        """As `enters`: what it waits for may still come, but the function never hears of it."""
        if self._life is not None and self._life.goes_on and self._round.waits(call, times):
            self._life.die()

    def enters_plainly(self, call: Call) -> None:
        """As `enters`; one that waited for a thread while its process died is never called."""
        if self._life is not None and (self._life.is_over or self._round.enters_plainly(call)):
            call.is_over = True
            self._life.die_plainly()

    def leaves_plainly(self, call: Call) -> None:
        """As `enters`."""
        if self._life is not None and (self._life.is_over or self._round.leaves(call)):
            self._life.die_plainly()


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _why(snapshot: RunSnapshot) -> str:
    """What the run waits for and will not get."""
    found, waiting = [snapshot, *(snapshot.children or ())], []
    for one in found:
        signals = ", ".join(f'"{name}"' for name in one.awaiting_signals)
        if signals:
            waiting.append(f"{one.workflow_name} waits at {one.current_node} for the signal {signals}")
    return "; ".join(waiting) or f"{snapshot.workflow_name} stands at {snapshot.current_node} for ever"
