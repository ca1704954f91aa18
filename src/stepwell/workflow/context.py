"""What a user's function is given: the read-only `Context`, whose values are decoded when they are read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, Never, Protocol, overload

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from stepwell.workflow.declared import ValueType
    from stepwell.workflow.policy import Suspended

    In = TypeVar("In", default=Any)
    In_co = TypeVar("In_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    In = TypeVar("In")
    In_co = TypeVar("In_co", covariant=True)

R = TypeVar("R")
_UNREAD: Any = object()
_NULL = b"null"


class Reading(Protocol):
    """How the values of one workflow's runs are given back: as plain JSON, or by their declared types."""

    @property
    def workflow(self) -> str:
        """The workflow's name."""

    @property
    def decode(self) -> Callable[[bytes], Any]:
        """A fresh copy of a value that is not declared."""

    @property
    def input(self) -> ValueType | None:
        """What the input is declared to be."""

    @property
    def results(self) -> Mapping[str, ValueType]:
        """By the names under which results are found; those that are declared."""

    @property
    def snapshots(self) -> Mapping[str, ValueType]:
        """By the names of what suspends itself: what it left for itself."""

    @property
    def resumes(self) -> Mapping[str, ValueType]:
        """By the same names: what answers it."""

    def decode_as(self, type_: ValueType, data: bytes, run_id: str, place: str) -> Any:
        """A fresh copy of a declared value; raises StoredValueError."""

    @property
    def named(self) -> Callable[[object], list[str]]:
        """The names under which the results of a handler are found."""


class Results(Mapping[str, Any]):
    """Results by name, each decoded on first access. Every handler has a mapping and copies of its own."""

    __slots__ = ("_decoded", "_encoded", "_reading", "_run_id", "_suspended")

    def __init__(self, encoded: Mapping[str, bytes], reading: Reading, run_id: str, suspended: str | None) -> None:
        """`suspended`: the name under which there is no result, but what a suspended handler left for itself."""
        self._encoded = encoded
        self._reading = reading
        self._run_id = run_id
        self._suspended = suspended
        self._decoded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        value = self._decoded.get(name, _UNREAD)
        if value is _UNREAD:
            encoded = self._encoded.get(name)
            if encoded is None:
                raise KeyError(f"{name} (known here: {', '.join(self._encoded) or 'none'})")
            reading = self._reading
            type_ = (reading.snapshots if name == self._suspended else reading.results).get(name)
            if type_ is None or encoded == _NULL:  # of what was skipped, whatever it is declared to give
                value = reading.decode(encoded)
            else:
                value = reading.decode_as(type_, encoded, self._run_id, f"results.{name}")
            self._decoded[name] = value
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._encoded)

    def __len__(self) -> int:
        return len(self._encoded)

    def __contains__(self, name: object) -> bool:
        return name in self._encoded

    def __repr__(self) -> str:
        return f"Results({dict(self)!r})"

    def of(self, function: object) -> Any:
        """The result of the node or entry whose handler this is; raises LookupError."""
        names = self._reading.named(function)
        called = getattr(function, "__name__", repr(function))
        if not names:
            raise LookupError(f"{called} is the handler of no node of workflow {self._reading.workflow}.")
        if len(names) > 1:
            raise LookupError(f"{called} is the handler of several nodes: {', '.join(names)}. Read ctx.results[name].")
        (name,) = names
        encoded, type_ = self._encoded.get(name), self._reading.results.get(name)
        was_skipped = encoded == _NULL and type_ is not None and not type_.takes_none
        if encoded is None or name == self._suspended or was_skipped:
            known = ", ".join(self._encoded) or "none"
            raise LookupError(f"{name}, whose handler is {called}, has not completed. Known here: {known}.")
        return self[name]


class Facts(Protocol):
    """What a context shows of the call it is made for."""

    @property
    def step(self) -> str:
        """The node's or the entry's name."""

    @property
    def attempt(self) -> int:
        """The attempt, from 1."""

    @property
    def iteration(self) -> int | None:
        """The iteration of a loop, from 1."""

    @property
    def results(self) -> Mapping[str, bytes]:
        """The encoded results by name."""

    @property
    def key(self) -> str:
        """The idempotency key."""

    @property
    def resumed_with(self) -> bytes | None:
        """The payload of the signal that re-entered the step."""

    @property
    def undoes(self) -> tuple[str, ...]:
        """The idempotency keys of what a compensator undoes."""


class Channels(Protocol):
    """What answers the questions of handlers while their attempts last: the worker that makes them."""

    def ask(self, run_id: str, facts: Facts, question: Any) -> Awaitable[Any]:
        """The answer."""

    def ask_blocking(self, run_id: str, facts: Facts, question: Any) -> Any:
        """The same for a plain handler in a thread."""

    def run(self, run_id: str, facts: Facts, *asked: Any) -> Awaitable[Any]:
        """A sub-step: its name, function, arguments by place and by name, and key."""

    def run_blocking(self, run_id: str, facts: Facts, *asked: Any) -> Any:
        """The same for a plain handler in a thread."""


class Context(Generic[In_co]):
    """The argument of every handler, compensator, resolver, condition and mapper; read-only.

    Its values are the function's own copies, given as their declared types. `Context[Order]` says in an annotation that
    the workflow's input is an `Order`. A stored value that does not decode raises StoredValueError: let it leave the
    function, and the run waits for a worker that can decode it.
    """

    __slots__ = ("_channels", "_encoded", "_facts", "_input", "_reading", "_results", "_resume_data", "_run_id")

    def __init__(self, run_id: str, reading: Reading, facts: Facts, encoded: bytes, channels: Channels) -> None:
        self._run_id = run_id
        self._reading = reading
        self._facts = facts
        self._encoded = encoded
        self._channels = channels
        self._input: Any = _UNREAD
        self._resume_data: Any = _UNREAD
        self._results: Results | None = None

    @property
    def input(self) -> In_co:
        """The run's input."""
        value = self._input
        if value is _UNREAD:
            reading = self._reading
            if reading.input is None:
                value = reading.decode(self._encoded)
            else:
                value = reading.decode_as(reading.input, self._encoded, self._run_id, "input")
            self._input = value
        given: In_co = value
        return given

    @property
    def results(self) -> Mapping[str, Any]:
        """The results so far by name, and the snapshot of a re-entered step; an unknown name raises KeyError."""
        return self._read()

    @overload
    def result(self, function: Callable[..., Awaitable[R | Suspended]]) -> R: ...
    @overload
    def result(self, function: Callable[..., R | Suspended]) -> R: ...
    def result(self, function: Callable[..., Any]) -> Any:
        """Returns the result of the node, or entry of a parallel, whose handler this function is.

        Of a branch's handler it is the route's. Raises LookupError, which names the nodes, if it is the handler of
        several nodes or of none that completed.
        """
        return self._read().of(function)

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._run_id

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self._reading.workflow

    @property
    def step(self) -> str:
        """The name of the node, or of the entry of a parallel."""
        return self._facts.step

    @property
    def attempt(self) -> int:
        """The attempt, counted from 1; a crash does not count."""
        return self._facts.attempt

    @property
    def iteration(self) -> int | None:
        """The iteration of a loop, counted from 1; None outside of loops."""
        return self._facts.iteration

    @property
    def idempotency_key(self) -> str:
        """A key for the services you call: the same for every attempt at one piece of work, also after a crash.

        Its form is `RUN/node`, with `/entry` or `/#iteration`, and with `/~choose`, `/~undo` or `/~1` (the first
        re-entry) for a resolver, a compensator and a re-entered step.
        """
        return self._facts.key

    @property
    def undoes_keys(self) -> tuple[str, ...]:
        """In a compensator: the idempotency keys of all entries of what it undoes, in order; elsewhere ().

        A step that suspended itself has one for each time it was entered. Of a child workflow it is its run's id.
        """
        return self._facts.undoes

    @property
    def undoes_key(self) -> str | None:
        """In a compensator: the last of `undoes_keys`, by which services know what it undoes; elsewhere None."""
        keys = self._facts.undoes
        return keys[-1] if keys else None

    @property
    def resume_data(self) -> Any:
        """The payload of the signal that re-entered this suspended step; else None."""
        if self._resume_data is _UNREAD:
            encoded = self._facts.resumed_with
            reading = self._reading
            type_ = reading.resumes.get(self._facts.step)
            if encoded is None or type_ is None:
                self._resume_data = None if encoded is None else reading.decode(encoded)
            else:
                self._resume_data = reading.decode_as(type_, encoded, self._run_id, f"resume.{self._facts.step}")
        return self._resume_data

    @overload
    async def run(
        self, name: str, function: Callable[..., Awaitable[R]], *args: Any, key: str | None = None, **kwargs: Any
    ) -> R: ...
    @overload
    async def run(
        self, name: str, function: Callable[..., R], *args: Any, key: str | None = None, **kwargs: Any
    ) -> R: ...
    async def run(
        self, name: str, function: Callable[..., Any], *args: Any, key: str | None = None, **kwargs: Any
    ) -> Any:
        """Calls the function as a sub-step of an async handler or compensator, and returns what it gives.

        The value is journaled before this returns. When the node is tried or entered again, the n-th call of a name is
        given what the n-th was given before, and the function is not called again. What it raises is not journaled.

        - `name`: as of a node. `function`: async, or plain and quick; its annotation declares the value, else JSON.
        - `key`: names this call instead of its number; needed by calls of one name that are in flight together.

        Raises DefinitionError for two that cannot be told apart, PayloadError for a value that cannot be journaled, and
        AttemptOverError when the attempt is over.
        """
        return await self._channels.run(self._run_id, self._facts, name, function, args, kwargs, key)

    @overload
    def run_blocking(
        self, name: str, function: Callable[..., Awaitable[R]], *args: Any, key: str | None = None, **kwargs: Any
    ) -> Never: ...
    @overload
    def run_blocking(
        self, name: str, function: Callable[..., R], *args: Any, key: str | None = None, **kwargs: Any
    ) -> R: ...
    def run_blocking(
        self, name: str, function: Callable[..., Any], *args: Any, key: str | None = None, **kwargs: Any
    ) -> Any:
        """As `run`, for a plain handler or compensator and a plain function, without `await`."""
        return self._channels.run_blocking(self._run_id, self._facts, name, function, args, kwargs, key)

    def _read(self) -> Results:
        if self._results is None:
            facts = self._facts
            suspended = None if facts.resumed_with is None else facts.step
            self._results = Results(facts.results, self._reading, self._run_id, suspended)
        return self._results

    def _ask(self, question: Any) -> Awaitable[Any]:
        """What the drive of this run answers, once that is committed."""
        return self._channels.ask(self._run_id, self._facts, question)

    def _ask_blocking(self, question: Any) -> Any:
        """The same for a plain handler."""
        return self._channels.ask_blocking(self._run_id, self._facts, question)

    def __repr__(self) -> str:
        return f"<Context of {self.step} in {self.workflow} run {self._run_id}, attempt {self.attempt}>"
