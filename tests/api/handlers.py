"""Handlers that fail on order and remember what they were given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepwell import Context


class LineDownError(Exception):
    """The failure that goes away by trying again."""


@dataclass(frozen=True)
class Call:
    """What a function was given at one call."""

    input: Any
    results: dict[str, Any]
    run_id: str
    workflow: str
    step: str
    attempt: int
    iteration: int | None
    key: str
    resume_data: Any

    @classmethod
    def of(cls, ctx: Context) -> Call:
        """A copy of all that the context says now."""
        return cls(
            ctx.input,
            dict(ctx.results),
            ctx.run_id,
            ctx.workflow,
            ctx.step,
            ctx.attempt,
            ctx.iteration,
            ctx.idempotency_key,
            ctx.resume_data,
        )


@dataclass
class Spy:
    """A handler that fails its first `failures` calls, then returns `result`; it remembers every call."""

    result: Any = None
    failures: int = 0
    error: type[Exception] = LineDownError
    calls: list[Call] = field(default_factory=list)

    async def handle(self, ctx: Context) -> Any:
        """For a step, an entry, a branch or a compensator."""
        return self._answer(ctx)

    async def iterate(self, input: Any, ctx: Context) -> Any:
        """For a loop."""
        return self._answer(ctx)

    def decide(self, ctx: Context) -> Any:
        """For a resolver, a mapper, a condition or a sleep's function: plain."""
        return self._answer(ctx)

    def _answer(self, ctx: Context) -> Any:
        self.calls.append(Call.of(ctx))
        if len(self.calls) <= self.failures:
            raise self.error("the line is down")
        return self.result

    @property
    def attempts(self) -> list[int]:
        """The attempt each call was."""
        return [call.attempt for call in self.calls]

    @property
    def keys(self) -> list[str]:
        """The idempotency key of each call."""
        return [call.key for call in self.calls]


async def fail(ctx: Context) -> None:
    """Fail every time."""
    raise LineDownError("the line is down")


async def nothing(ctx: Context) -> None:
    """Succeed, with no result."""
