"""What a user's function is given: the read-only `Context`, whose values are decoded when they are read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol

_UNREAD: Any = object()


class Results(Mapping[str, Any]):
    """Results by name, each decoded on first access. Every handler has a mapping and copies of its own."""

    __slots__ = ("_decode", "_decoded", "_encoded")

    def __init__(self, encoded: Mapping[str, bytes], decode: Callable[[bytes], Any]) -> None:
        self._encoded = encoded
        self._decode = decode
        self._decoded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        value = self._decoded.get(name, _UNREAD)
        if value is _UNREAD:
            encoded = self._encoded.get(name)
            if encoded is None:
                raise KeyError(f"{name} (known here: {', '.join(self._encoded) or 'none'})")
            value = self._decoded[name] = self._decode(encoded)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._encoded)

    def __len__(self) -> int:
        return len(self._encoded)

    def __contains__(self, name: object) -> bool:
        return name in self._encoded

    def __repr__(self) -> str:
        return f"Results({dict(self)!r})"


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


class Channels(Protocol):
    """What answers the questions of handlers while their attempts last: the worker that makes them."""

    def ask(self, run_id: str, facts: Facts, question: Any) -> Awaitable[Any]:
        """The answer."""

    def ask_blocking(self, run_id: str, facts: Facts, question: Any) -> Any:
        """The same for a plain handler in a thread."""


class Context:
    """The argument of every handler, compensator, resolver, condition and mapper; read-only.

    Its values are the function's own copies.
    """

    __slots__ = (
        "_channels",
        "_decode",
        "_encoded",
        "_facts",
        "_input",
        "_results",
        "_resume_data",
        "_run_id",
        "_workflow",
    )

    def __init__(  # noqa: PLR0917  made for each call, by two callers
        self,
        run_id: str,
        workflow: str,
        facts: Facts,
        encoded: bytes,
        decode: Callable[[bytes], Any],
        channels: Channels,
    ) -> None:
        self._run_id = run_id
        self._workflow = workflow
        self._facts = facts
        self._encoded = encoded
        self._decode = decode
        self._channels = channels
        self._input = self._resume_data = _UNREAD
        self._results: Results | None = None

    @property
    def input(self) -> Any:
        """The run's input."""
        if self._input is _UNREAD:
            self._input = self._decode(self._encoded)
        return self._input

    @property
    def results(self) -> Mapping[str, Any]:
        """The results so far by name, and the snapshot of a re-entered step; an unknown name raises KeyError."""
        if self._results is None:
            self._results = Results(self._facts.results, self._decode)
        return self._results

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._run_id

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self._workflow

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
    def resume_data(self) -> Any:
        """The payload of the signal that re-entered this suspended step; else None."""
        if self._resume_data is _UNREAD:
            encoded = self._facts.resumed_with
            self._resume_data = None if encoded is None else self._decode(encoded)
        return self._resume_data

    def _ask(self, question: Any) -> Awaitable[Any]:
        """What the drive of this run answers, once that is committed."""
        return self._channels.ask(self._run_id, self._facts, question)

    def _ask_blocking(self, question: Any) -> Any:
        """The same for a plain handler."""
        return self._channels.ask_blocking(self._run_id, self._facts, question)

    def __repr__(self) -> str:
        return f"<Context of {self.step} in {self._workflow} run {self._run_id}, attempt {self.attempt}>"
