"""What a user's function is given: the read-only `Context`, whose values are decoded when they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

_UNREAD: Any = object()


class Results(Mapping[str, Any]):
    """Results by name, decoded once, on first access; each handler has a mapping and copies of its own."""

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


class Context:
    """What a handler, compensator, resolver, condition or mapper may know of its run; it cannot be changed.

    `input` and `results` are this function's own copies. `attempt` and `iteration` count from 1 (`iteration` is None
    outside loops). `idempotency_key` stays the same over attempts and crashes.
    """

    __slots__ = (
        "_attempt",
        "_decode",
        "_idempotency_key",
        "_input",
        "_input_encoded",
        "_iteration",
        "_results",
        "_resume",
        "_resume_encoded",
        "_run_id",
        "_step",
        "_workflow",
    )

    def __init__(  # noqa: PLR0917  built once a call on the hot path, by one caller
        self,
        run_id: str,
        workflow: str,
        step: str,
        attempt: int,
        iteration: int | None,
        idempotency_key: str,
        input_encoded: bytes,
        results: Mapping[str, bytes],
        resume_encoded: bytes | None,
        decode: Callable[[bytes], Any],
    ) -> None:
        self._run_id = run_id
        self._workflow = workflow
        self._step = step
        self._attempt = attempt
        self._iteration = iteration
        self._idempotency_key = idempotency_key
        self._input_encoded = input_encoded
        self._input = _UNREAD
        self._results = Results(results, decode)
        self._resume_encoded = resume_encoded
        self._resume = _UNREAD
        self._decode = decode

    @property
    def input(self) -> Any:
        """The run's input."""
        if self._input is _UNREAD:
            self._input = self._decode(self._input_encoded)
        return self._input

    @property
    def results(self) -> Mapping[str, Any]:
        """Results by name, of what completed before this node began."""
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
        return self._step

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1; a crash does not count."""
        return self._attempt

    @property
    def iteration(self) -> int | None:
        """Which iteration of a loop this is, from 1; None outside loops."""
        return self._iteration

    @property
    def idempotency_key(self) -> str:
        """A key for payment and other outside services: the same for every attempt of this one piece of work."""
        return self._idempotency_key

    @property
    def resume_data(self) -> Any:
        """What the signal brought that re-entered this suspended step; None otherwise."""
        if self._resume is _UNREAD:
            self._resume = None if self._resume_encoded is None else self._decode(self._resume_encoded)
        return self._resume

    def __repr__(self) -> str:
        return f"<Context of {self._step} in {self._workflow} run {self._run_id}, attempt {self._attempt}>"
