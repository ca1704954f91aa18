"""Workflows built from designs, whose functions behave as their acts say and tell a probe of every call."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, Protocol

from stepwell import Abort, Branch, Context, Retry, Suspended, Workflow, durable
from tests.simulation.acts import (
    Act,
    act_of,
    asked_in_vain,
    branch_of,
    child_number,
    gives_up,
    holds,
    last_turn,
    place_of,
)
from tests.simulation.designs import (
    ChildSpec,
    Design,
    LoopSpec,
    ParallelSpec,
    RouteSpec,
    SleepSpec,
    Spec,
    StepSpec,
    Unit,
    WaitSpec,
)
from tests.simulation.wide import pad_of

if TYPE_CHECKING:
    from collections.abc import Callable

STALL_SECONDS = 3600.0
RETRIED = (Exception, asyncio.CancelledError)
"""A cancel of its own is no Exception, and would fail its node at once."""


class GivenUpError(Exception):
    """What some steps are not tried again after."""


class Probe(Protocol):
    """Who is told of every call of a user function, and says how long a handler works."""

    def begins(self, ctx: Context, phase: str) -> str:
        """A call begins; the token that tells it from every other call."""

    def ends(self, ctx: Context, phase: str, token: str) -> None:
        """The call is about to return this token."""

    async def works(self, seconds: float | None = None) -> None:
        """Work of so many seconds, or of some."""

    def works_plainly(self) -> None:
        """The same, in a thread."""


class SubProbe(Protocol):
    """Who is told of every sub-step."""

    def sub_begins(self, ctx: Context, phase: str, name: str) -> str:
        """Its function is called; the token that tells the call from every other one."""

    def sub_given(self, ctx: Context, phase: str, name: str, token: str) -> None:
        """A handler is given this token as the sub-step's value."""


class Builder:
    """Builds workflows from designs.

    `unit` is the designs' own, in seconds, `stall` holds a plain handler up, `sizes` are the most bytes of padding,
    `sub_probe` is told of sub-steps.
    """

    def __init__(
        self,
        probe: Probe,
        unit: float,
        stall: Callable[[], None] | None = None,
        sizes: int = 0,
        sub_probe: SubProbe | None = None,
    ) -> None:
        self._sub_probe = sub_probe
        self._probe = probe
        self._unit = unit
        self._stall = stall
        self._sizes = sizes

    def workflow(self, design: Design) -> Workflow:
        """The workflow of one design."""
        flow = durable(design.name)
        for spec in design.specs:
            self._add(flow, design, spec)
        return flow

    def _add(self, flow: Workflow, design: Design, spec: Spec) -> None:
        when = self._condition(design, spec.name) if spec.conditional else None
        match spec:
            case StepSpec(name, unit, _, _, retries, stalls, may_give_up):
                handler = self._handler(design, spec, unit)
                timeout = 2 * self._unit if stalls else None
                undo = (
                    self._compensator(design, unit.name, waits=not stalls, sub_steps=unit.sub_steps)
                    if unit.compensated
                    else None
                )
                backoff = self._unit / 10
                flow.step(
                    name,
                    handler,
                    compensate=undo,
                    undo=_undo_of(unit),
                    when=when,
                    max_retries=retries,
                    retry_backoff=backoff,
                    retry_on=RETRIED,
                    timeout=timeout,
                    give_up_on=GivenUpError if may_give_up else (),
                )
            case ParallelSpec(name, units, _, retries):
                branches = {unit.name: self._branch(design, spec, unit) for unit in units}
                flow.parallel(
                    name, branches, when=when, max_retries=retries, retry_backoff=self._unit / 10, retry_on=RETRIED
                )
            case RouteSpec(name, units, _, retries):
                branches = {unit.name: self._branch(design, spec, unit) for unit in units}
                resolver = self._resolver(design, spec)
                flow.route(
                    name,
                    resolver,
                    branches,
                    when=when,
                    max_retries=retries,
                    retry_backoff=self._unit / 10,
                    retry_on=RETRIED,
                )
            case LoopSpec():
                self._add_loop(flow, design, spec, when)
            case SleepSpec(name, seconds, asked, _):
                flow.sleep(name, self._length(design, spec) if asked else seconds, when=when)
            case WaitSpec(name, signal, timeout, True, _):
                flow.wait_for_signal(name, signal, timeout=timeout, default={"default": name}, when=when)
            case WaitSpec(name, signal, timeout, _, _):
                flow.wait_for_signal(name, signal, timeout=timeout, when=when)
            case ChildSpec(name, workflow, maps, compensated, _):
                mapper = self._mapper(design, spec) if maps else None
                undo = self._compensator(design, name, cancels=False) if compensated else None
                flow.child_workflow(name, workflow, map_input=mapper, compensate=undo, undo=_undo_of(spec), when=when)

    def _add_loop(self, flow: Workflow, design: Design, spec: LoopSpec, when: Callable[..., Any] | None) -> None:
        flow.loop(
            spec.name,
            self._turn(design, spec),
            max_iterations=spec.turns,
            until=_until if spec.until else None,
            feedback=_feedback if spec.feedback else None,
            map_input=self._first(spec) if spec.maps else None,
            pause=spec.pause or None,
            compensate=self._compensator(design, spec.unit.name, sub_steps=spec.unit.sub_steps)
            if spec.unit.compensated
            else None,
            undo=_undo_of(spec.unit),
            when=when,
            max_retries=spec.retries,
            retry_backoff=self._unit / 10,
            retry_on=RETRIED,
        )

    def _branch(self, design: Design, spec: Spec, unit: Unit) -> Branch:
        undo = self._compensator(design, unit.name, sub_steps=unit.sub_steps) if unit.compensated else None
        return Branch(self._handler(design, spec, unit), undo, undo=_undo_of(unit))

    def _handler(self, design: Design, spec: Spec, unit: Unit) -> Callable[..., Any]:
        probe = self._probe

        def begin(ctx: Context) -> tuple[str, Act, int, int]:
            token = probe.begins(ctx, "do")
            before = ctx.results.get(ctx.step) if isinstance(spec, StepSpec) else None
            entries = before["entry"] if before else 0
            number = ctx.input["number"]
            offset = asked_in_vain(number, design.name, f"{spec.name} when") if _shares(spec) and not entries else 0
            stalls = isinstance(spec, StepSpec) and spec.stalls
            # a branch's own name, so that it does not share its act with another branch of the route
            act = act_of(number, design.name, place_of(unit.name, None, entries), stalls=stalls)
            return token, act, ctx.attempt - offset, entries

        def end(ctx: Context, token: str, act: Act, attempt: int, entries: int) -> Any:
            probe.ends(ctx, "do", token)
            _give_up(ctx, design, spec)
            _fail(act, attempt, self._unit)
            if act.end == "unstorable":
                return {"set": {1, 2}}
            if isinstance(spec, StepSpec) and entries < spec.suspends:
                snapshot = {"entry": entries + 1, "token": token, **self._pad(ctx, design)}
                if entries % 2:
                    return {**snapshot, "status": "suspended", "state": "as a mapping"}
                return Suspended(snapshot)
            told = {"at": unit.name, "number": ctx.input["number"], "saw": sorted(ctx.results), "token": token}
            told |= self._pad(ctx, design)
            return {**told, "resumed": ctx.resume_data} if entries else told

        async def handler(ctx: Context) -> Any:
            token, act, attempt, entries = begin(ctx)
            if act.how == "stall" and attempt <= act.fails:
                await probe.works(STALL_SECONDS)
            if not (isinstance(spec, StepSpec) and spec.stalls):
                await probe.works()
            await self._make_sub_steps(ctx, "do", unit.sub_steps)
            result = end(ctx, token, act, attempt, entries)
            await _let_cancel(act)
            return result

        def plain(ctx: Context) -> Any:
            token, act, attempt, entries = begin(ctx)
            if act.how == "stall" and attempt <= act.fails and self._stall is not None:
                self._stall()
            elif not (isinstance(spec, StepSpec) and spec.stalls):
                probe.works_plainly()
            return end(ctx, token, act, attempt, entries)

        return plain if unit.plain else handler

    def _turn(self, design: Design, spec: LoopSpec) -> Callable[..., Any]:
        probe = self._probe

        def end(value: Any, ctx: Context, token: str) -> Any:
            number, turn = ctx.input["number"], ctx.iteration or 0
            act = act_of(number, design.name, place_of(spec.unit.name, turn))
            probe.ends(ctx, "do", token)
            spoils = act.how == "spoil" and spec.until and turn < spec.turns
            if not (spoils and ctx.attempt <= act.fails):
                _fail(act, ctx.attempt, self._unit)
            if act.end == "unstorable" and ctx.attempt > act.fails:
                return {"set": {1, 2}}
            told = {"turn": turn, "given": value, "saw": sorted(ctx.results), "token": token}
            told |= self._pad(ctx, design)
            told["stops"] = turn >= last_turn(number, design.name, spec.name, spec.turns)
            return {**told, "spoiled": True} if spoils and ctx.attempt <= act.fails else told

        async def handler(value: Any, ctx: Context) -> Any:
            token = probe.begins(ctx, "do")
            await probe.works()
            await self._make_sub_steps(ctx, "do", spec.unit.sub_steps)
            result = end(value, ctx, token)
            await _let_cancel(act_of(ctx.input["number"], design.name, place_of(spec.unit.name, ctx.iteration or 0)))
            return result

        def plain(value: Any, ctx: Context) -> Any:
            token = probe.begins(ctx, "do")
            probe.works_plainly()
            return end(value, ctx, token)

        return plain if spec.unit.plain else handler

    async def _make_sub_steps(self, ctx: Context, phase: str, count: int) -> None:
        """Some sub-steps: one after the other by their numbers, and two beside each other by keys."""
        for number in range(1, min(count, 2) + 1):
            await self._make_sub_step(ctx, phase, f"part#{number}", None)
        if count > 2:
            both = [self._make_sub_step(ctx, phase, f"side~{key}", key) for key in ("left", "right")]
            await asyncio.gather(*both)

    async def _make_sub_step(self, ctx: Context, phase: str, named: str, key: str | None) -> None:
        probe = self._sub_probe
        assert probe is not None

        async def make() -> str:
            token = probe.sub_begins(ctx, phase, named)
            await self._probe.works()
            return token

        probe.sub_given(ctx, phase, named, await ctx.run(named[:4], make, key=key))

    def _pad(self, ctx: Context, design: Design) -> dict[str, str]:
        pad = pad_of(self._sizes, ctx.input["number"], f"{design.name} {ctx.step} {ctx.iteration}")
        return {"pad": pad} if pad else {}

    def _compensator(
        self, design: Design, name: str, *, waits: bool = True, cancels: bool = True, sub_steps: int = 0
    ) -> Callable[..., Any]:
        """`cancels`: it may cancel its own task; under a child's policy, the default one, that is not tried again."""
        probe = self._probe

        async def compensator(ctx: Context) -> Any:
            token = probe.begins(ctx, "undo")
            act = act_of(ctx.input["number"], design.name, place_of(name, ctx.iteration), undo=True)
            if not cancels and act.how in {"cancel", "leave"}:
                act = act._replace(how="error")
            if waits:  # where the node has a timeout, nothing but what the act says may run into it
                await probe.works()
                await self._make_sub_steps(ctx, "undo", sub_steps)
            probe.ends(ctx, "undo", token)
            _fail(act, ctx.attempt, self._unit)
            await _let_cancel(act)
            return {"dropped": {1, 2}}

        return compensator

    def _condition(self, design: Design, node: str) -> Callable[..., Any]:
        def condition(ctx: Context) -> bool:
            self._probe.begins(ctx, "when")
            number = ctx.input["number"]
            if ctx.attempt <= asked_in_vain(number, design.name, f"{node} when"):
                raise ValueError("the condition was asked in vain")
            return holds(number, design.name, node)

        return condition

    def _resolver(self, design: Design, spec: RouteSpec) -> Callable[..., Any]:
        def resolver(ctx: Context) -> str:
            self._probe.begins(ctx, "choose")
            number = ctx.input["number"]
            if ctx.attempt <= _vain(number, design, spec, "choose"):
                raise ValueError("the resolver was asked in vain")
            return branch_of(number, design.name, spec.name, tuple(unit.name for unit in spec.units))

        return resolver

    def _length(self, design: Design, spec: SleepSpec) -> Callable[..., Any]:
        def length(ctx: Context) -> float:
            self._probe.begins(ctx, "ask")
            if ctx.attempt <= _vain(ctx.input["number"], design, spec, "ask"):
                raise ValueError("the sleep's function was asked in vain")
            return spec.seconds

        return length

    def _mapper(self, design: Design, spec: ChildSpec) -> Callable[..., Any]:
        def mapper(ctx: Context) -> Any:
            self._probe.begins(ctx, "map")
            number = ctx.input["number"]
            if ctx.attempt <= _vain(number, design, spec, "map"):
                raise ValueError("the mapper was asked in vain")
            return {"number": child_number(number, spec.name)}

        return mapper

    def _first(self, spec: LoopSpec) -> Callable[..., Any]:
        return lambda ctx: {"first": ctx.input["number"], "of": spec.name}


def _undo_of(unit: Unit | ChildSpec) -> Literal["completed", "attempted"]:
    return "attempted" if unit.attempted else "completed"


def _shares(spec: Spec) -> bool:
    """Whether a condition's failed attempts are counted with the handler's: it is so in a step alone."""
    return isinstance(spec, StepSpec) and spec.conditional


def _vain(number: int, design: Design, spec: Spec, what: str) -> int:
    when = asked_in_vain(number, design.name, f"{spec.name} when") if spec.conditional else 0
    return when + asked_in_vain(number, design.name, f"{spec.name} {what}")


def _give_up(ctx: Context, design: Design, spec: Spec) -> None:
    """Raises what the step is not tried again after, where its run's number says so."""
    if isinstance(spec, StepSpec) and spec.gives_up and gives_up(ctx.input["number"], design.name, spec.name):
        raise GivenUpError("no further attempt would help")


def _fail(act: Act, attempt: int, unit: float) -> None:
    if attempt <= act.fails or act.end == "exhausts":
        if act.how == "retry":
            raise Retry("this attempt fails", after=unit / 5)
        if act.how in {"cancel", "leave"}:
            _cancel_itself()
            return
        raise ValueError("this attempt fails")
    if act.end == "aborts":
        raise Abort("this one is given up")


def _cancel_itself() -> None:
    try:
        own = asyncio.current_task()
    except RuntimeError:  # in a real thread
        own = None
    if own is None:
        raise asyncio.CancelledError("this attempt fails")
    own.cancel()


async def _let_cancel(act: Act) -> None:
    """A wait in which a cancel of its own reaches the function; without one, nothing."""
    own = asyncio.current_task()
    if act.how == "cancel" and own is not None and own.cancelling():
        await asyncio.sleep(0)


def _until(result: Any, iteration: int) -> bool:
    if result.get("spoiled"):
        raise ValueError("the condition of the loop fails")
    return bool(result["stops"]) and iteration >= 1


def _feedback(result: Any) -> Any:
    return {"after": result["turn"]}
