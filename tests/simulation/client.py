"""The client of a history, real or simulated: starts runs, signals early, late, twice, at deadlines, and cancels."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from stepwell import RunNotFoundError, RunStatus, StoreUnavailableError
from tests.simulation.designs import StepSpec
from tests.simulation.trace import Letter, Trace
from tests.simulation.wide import pad_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from stepwell import Durable, RunSnapshot
    from tests.simulation.designs import Design

LIVE = (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.SUSPENDED, RunStatus.COMPENSATING)
AROUND_A_DEADLINE = 0.02
PAGE = 500
FOREIGN = "foreign"
FLOOD = 100
FLOODS_EVERY = 0.01
FIRST_RESORT = 0.3
LEAVES = 0.4
AWAY_SECONDS = 0.2
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Manner:
    """How a client goes about it.

    Seconds between looks, and until a cancel at most; how many roots are live at once; the share of runs it cancels,
    and of looks at which it signals a run that does not wait. It cancels a run once or never: so nothing that hangs
    is saved by it.
    """

    looks_every: float = 0.05
    lives_for: float = 1.0
    most_live: int = 40
    cancels: float = 0.03
    early: float = 0.015
    tires: float = 1.0
    """By how much the pause grows from each look to the next, up to ten times what it was."""
    floods: float = field(default=0.0, repr=False)
    """The share of waits that it floods, until they are over, with signals of a name that no node waits for."""
    by_status: bool = True
    """Whether it asks for live runs alone, which costs more calls where there are few runs."""
    start_many: int = field(default=1, repr=False)
    """How many roots one call starts."""
    delays: float = field(default=0.0, repr=False)
    """The share of starts with a delay."""
    shared_keys: int = field(default=1, repr=False)
    """How many starts have the same key."""
    second_cancels: bool = field(default=False, repr=False)
    """Whether each cancel comes twice at once, and again later."""
    compensates: float = field(default=0.0, repr=False)
    """The share of its cancels that compensate."""
    sizes: int = field(default=0, repr=False)
    """The most bytes by which what it sends is padded."""

    @property
    def starts_otherwise(self) -> bool:
        """Whether it starts many at once, some later, or some under one key."""
        return self.start_many > 1 or self.delays > 0 or self.shared_keys > 1


@dataclass(slots=True)
class Done:
    """What the client did, by name, and what it found wrong at once."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class _DeletedError(Exception):
    """The run was deleted by hand."""


class Client:
    """Troubles all runs of an app until they have ended."""

    def __init__(
        self, app: Durable, trace: Trace, chance: random.Random, now: Callable[[], float], manner: Manner
    ) -> None:
        self.done = Done()
        self.roots: list[str] = []
        self._app = app
        self._trace = trace
        self._chance = chance
        self._now = now
        self._manner = manner
        self._made = 0
        self._turns = defaultdict[str, asyncio.Lock](asyncio.Lock)
        self._planned: set[tuple[str, str]] = set()
        self._seen: set[str] = set()
        self._undelayed: set[str] = set()
        self._aside: set[asyncio.Task[None]] = set()
        self._flooded: set[tuple[str, str]] = set()
        self._floods = random.Random(f"floods {manner.floods}")
        self._compensations = random.Random(f"compensations {manner.lives_for}")

    async def act(self, runs: int, poisons: int) -> None:
        """Start the runs, a few at a time, and go on until all have ended."""
        await self.act_on(self._inputs(runs, poisons))

    async def act_on(self, inputs: list[tuple[str, dict[str, Any]]]) -> None:
        """The same, with runs of these workflows and inputs."""
        pause = self._manner.looks_every
        while True:
            live = await self._live()
            if not inputs and not live:
                break
            roots = sum(run.parent_run_id is None for run in live)
            while inputs and roots < self._manner.most_live:
                some = [inputs.pop() for _ in range(min(self._manner.start_many, len(inputs)))]
                await (self._start_some(some) if self._manner.starts_otherwise else self._start(*some[0]))
                roots += len(some)
            for run in live:
                if run.run_id not in self._seen:
                    self._seen.add(run.run_id)
                    if self._chance.random() < self._manner.cancels:
                        self._later(self._cancel_later(self._chance.uniform(0, self._manner.lives_for), run))
                with contextlib.suppress(_DeletedError):
                    await self._attend(run)
            await asyncio.sleep(pause)
            pause = min(pause * self._manner.tires, 10 * self._manner.looks_every)
        for one in list(self._aside):
            await one

    async def _live(self) -> list[RunSnapshot]:
        if self._manner.by_status:
            return [run for status in LIVE for run in await self._list(status=status)]
        return [run for run in await self._list() if run.status in LIVE]

    def _inputs(self, runs: int, poisons: int) -> list[tuple[str, dict[str, Any]]]:
        roots = [design for design in self._trace.designs.values() if design.level == "root"]
        inputs: list[tuple[str, dict[str, Any]]] = [
            (self._chance.choice(roots).name, {"number": number}) for number in range(runs - poisons)
        ]
        able = [(design, name) for design in roots if (name := _poisonable(design))]
        for number in range(poisons if able else 0):
            design, name = self._chance.choice(able)
            inputs.append((design.name, {"number": runs + number, "poison": name}))
        self._chance.shuffle(inputs)
        return inputs

    async def _start(self, workflow: str, given: dict[str, Any]) -> None:
        key = f"root {given['number']}"
        first, second = await asyncio.gather(
            *(self._surely(lambda: self._app.start(workflow, given, key=key)) for _ in range(2))
        )
        if first.run_id != second.run_id and not {first.run_id, second.run_id} & self._trace.deleted:
            self.done.faults.append(f"I10: {key} is two runs, {first.run_id} and {second.run_id}")
        self.roots.append(first.run_id)
        self.done.counts["runs started twice by one key"] += 1

    async def _start_some(self, some: list[tuple[str, dict[str, Any]]]) -> None:
        """Starts these runs of one workflow by one call, twice, as a client does whose answer was lost."""
        manner, workflow = self._manner, some[0][0]
        inputs = [given for _, given in some]
        keys = [f"root {given['number'] // manner.shared_keys}" for given in inputs]
        delay = self._chance.uniform(0, 0.5) if self._chance.random() < manner.delays else None
        asked = asyncio.get_running_loop().time()
        first, second = [
            await self._surely(lambda: self._app.start_many(workflow, inputs, keys=keys, delay=delay)) for _ in range(2)
        ]
        again = dict(zip(keys, second, strict=True))
        for key, one in zip(keys, first, strict=True):
            if one.run_id != again[key].run_id and not {one.run_id, again[key].run_id} & self._trace.deleted:
                self.done.faults.append(f"I10: {key} is two runs, {one.run_id} and {again[key].run_id}")
            if delay is None or one.run_id in self._undelayed:
                self._trace.not_before.pop(one.run_id, None)
                self._undelayed.add(one.run_id)
            else:
                earliest = asked + delay
                known = self._trace.not_before.setdefault(one.run_id, earliest)
                self._trace.not_before[one.run_id] = min(known, earliest)
        self.roots += [one.run_id for one in first]
        counts = self.done.counts
        counts["delayed starts"] += 0 if delay is None else len(some)
        counts["starts of many at once"] += len(some) > 1
        counts["starts under another's key"] += len(some) - len(set(keys))

    async def _attend(self, run: RunSnapshot) -> None:
        """Send what the run waits for, or perhaps something that it does not wait for yet."""
        name = run.awaiting_signal
        place = (run.run_id, run.current_node or "")
        if name is not None and self._manner.floods and place not in self._flooded:
            self._flooded.add(place)
            if self._floods.random() < self._manner.floods:
                self._later(self._flood(run.run_id, name))
        if name is None or run.current_node is None:
            if self._chance.random() < self._manner.early:
                names = self._trace.designs[run.workflow_name].signals
                if names:
                    await self._send(run.run_id, self._chance.choice(names), only_if_awaited=False)
        elif run.wake_at is None:
            if self._chance.random() < FIRST_RESORT and not await self._is_beside_unread_mail(run, name):
                await self._send(run.run_id, name, only_if_awaited=self._chance.random() < 0.5)
        elif (run.run_id, run.current_node) not in self._planned:
            self._planned.add((run.run_id, run.current_node))
            drawn = self._chance.random()
            left = run.wake_at.timestamp() - self._now()
            if drawn >= LEAVES:
                at_once = drawn < (1 + LEAVES) / 2
                wait = left * self._chance.random() if at_once else left + self._around_a_deadline()
                self._later(self._send_later(max(wait, 0), run.run_id, name))

    async def _flood(self, run_id: str, awaited: str) -> None:
        """Send signals that nothing waits for: the run goes on waiting, and times out, as if there were none."""
        for number in range(FLOOD):
            await self._surely(lambda: self._app.signal(run_id, FOREIGN, number))  # noqa: B023  it is awaited at once
            self.done.counts["foreign signals"] += 1
            await asyncio.sleep(self._floods.uniform(0, FLOODS_EVERY))
            if number % 5 == 0:
                run = await self._surely(lambda: self._app.status(run_id))
                if run.awaiting_signal != awaited:
                    return

    async def _is_beside_unread_mail(self, run: RunSnapshot, name: str) -> bool:
        """Whether the run waits for a letter that was accepted before: then nothing more is sent, and it hangs."""
        async with self._turns[run.run_id]:
            accepted = sum(letter.name == name for letter in self._trace.letters.get(run.run_id, ()))
            if not accepted:
                return False
            before = await self._surely(lambda: self._app.journal(run.run_id))
            now = await self._surely(lambda: self._app.status(run.run_id))
            after = await self._surely(lambda: self._app.journal(run.run_id))
        nodes = {spec.name: getattr(spec, "signal", None) for spec in self._trace.designs[run.workflow_name].specs}
        used = sum(one.kind == "signal" and nodes[one.node] == name and _is_letter(one.result) for one in before)
        used += max(0, sum(one.node == name and one.status == "suspended" for one in before) - 1)
        beside = before == after and now.awaiting_signal == name and accepted > used
        if beside:
            self.done.faults.append(f"I6: {run.run_id} waits for {name} beside {accepted - used} unread letters of it")
        return beside

    def _around_a_deadline(self) -> float:
        return self._chance.uniform(-AROUND_A_DEADLINE, AROUND_A_DEADLINE)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        late = asyncio.get_running_loop().create_task(_unless_deleted(work))
        self._aside.add(late)
        late.add_done_callback(self._aside.discard)

    async def _cancel_later(self, seconds: float, run: RunSnapshot) -> None:
        await asyncio.sleep(seconds)
        await self._cancel(run)

    async def _send_later(self, seconds: float, run_id: str, name: str) -> None:
        await asyncio.sleep(seconds)
        await self._send(run_id, name, only_if_awaited=True)

    async def _send(self, run_id: str, name: str, *, only_if_awaited: bool) -> None:
        """Send one letter, letters to one run one after the other; now and then the same one twice."""
        async with self._turns[run_id]:
            self._made += 1
            payload: dict[str, Any] = {"letter": self._made}
            key = f"letter {self._made}"
            pad = pad_of(self._manner.sizes, self._made, "letter")
            if pad:
                payload["pad"] = pad
            send = self._app.resume if only_if_awaited else self._app.signal
            answer = await self._surely(lambda: send(run_id, name, payload, key=key))
            what = "resume" if only_if_awaited else "signal"
            self.done.counts[f"{what} {'accepted' if answer.accepted else 'refused'}"] += 1
            if not answer.accepted:
                if not only_if_awaited and answer.status in LIVE:
                    self.done.faults.append(f"I6: a signal to {run_id}, which is {answer.status}, was refused")
                return
            letter = Letter(name, payload, only_if_awaited, self._now())
            self._trace.letters.setdefault(run_id, []).append(letter)
            if self._chance.random() < 0.2:
                second = {"letter": "a second one"}
                again = await self._surely(lambda: self._app.signal(run_id, name, second, key=key))
                self.done.counts["signals sent twice"] += 1
                if not again.accepted:
                    self.done.faults.append(f"I6: {key} to {run_id} was accepted once and refused when it came again")

    async def _cancel(self, run: RunSnapshot) -> None:
        """Cancel a run, a root or a child, and keep what is journaled then of all that was canceled."""
        if self._compensations.random() < self._manner.compensates:
            await self._cancel_compensating(run)
            return
        async with self._turns[run.run_id]:
            self._trace.cancel_asked.add(run.run_id)
            self._trace.plainly_canceled.add(run.run_id)
            await self._surely(lambda: self._app.cancel(run.run_id))
            if self._manner.second_cancels:
                await asyncio.gather(*(self._surely(lambda: self._app.cancel(run.run_id)) for _ in range(2)))
                self.done.counts["second cancels"] += 1
        after = await self._surely(lambda: self._app.status(run.run_id))
        if after.status in LIVE:
            self.done.faults.append(f"I9: {run.run_id} is {after.status} after it was canceled")
        self.done.counts[f"cancel of a {after.status} {'root' if after.parent_run_id is None else 'child'}"] += 1
        if after.status is RunStatus.CANCELED:
            await self._freeze(after)

    async def _cancel_compensating(self, run: RunSnapshot) -> None:
        """Have a run, a root or a child, undone and canceled; twice, as a client does whose answer was lost."""
        self._trace.cancel_asked.add(run.run_id)
        for _ in range(2):
            await self._surely(lambda: self._app.cancel(run.run_id, compensate=True))
        self.done.counts["cancels that compensate"] += 1

    async def _freeze(self, run: RunSnapshot) -> None:
        if run.status is RunStatus.CANCELED and run.run_id not in self._trace.frozen:
            self._trace.frozen[run.run_id] = await self._surely(lambda: self._app.journal(run.run_id))
        if run.status in LIVE:
            self.done.faults.append(f"I9: {run.run_id} is {run.status} though the run above it is canceled")
        for child in await self._list(parent_run_id=run.run_id):
            await self._freeze(child)

    async def _list(self, **wanted: Any) -> list[RunSnapshot]:
        return await self._surely(lambda: self._app.list(**wanted, limit=PAGE))

    async def _surely(self, call: Callable[[], Awaitable[T]]) -> T:
        """What the call gives, made again as long as the store is away: answers that are lost do no harm."""
        while True:
            try:
                return await call()
            except StoreUnavailableError:
                self.done.counts["calls made again"] += 1
                await asyncio.sleep(AWAY_SECONDS)
            except RunNotFoundError as error:
                if error.run_id in self._trace.deleted:
                    raise _DeletedError from None
                raise


async def _unless_deleted(work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(_DeletedError):
        await work


def _is_letter(value: Any) -> bool:
    return isinstance(value, dict) and "letter" in value


def _poisonable(design: Design) -> str | None:
    """A step of the design that may be made to kill its worker."""
    return next((spec.name for spec in design.specs if isinstance(spec, StepSpec) and not spec.suspends), None)


async def tell(app: Durable, trace: Trace) -> None:
    """Read every run and journal into the trace."""
    before: str | None = None
    while page := await app.list(limit=PAGE, before=before):
        for run in page:
            trace.snapshots[run.run_id] = await app.status(run.run_id)
            trace.journals[run.run_id] = await app.journal(run.run_id)
        before = page[-1].run_id
