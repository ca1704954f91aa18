"""How a node's functions are attempted: retries, backoff, timeouts, and what a handler raises or returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypedDict

from stepwell.errors import DefinitionError
from stepwell.workflow.durations import Duration, micros
from stepwell.workflow.numbers import count, is_number, shown

ExceptionTypes = type[BaseException] | tuple[type[BaseException], ...]

_SECOND = 1_000_000


class Retry(Exception):
    """Raise it in a function to fail the attempt and to set the delay before the next one.

    `after` is a duration; None uses the policy's delay. The attempt counts like any other, and is retried whatever
    `retry_on` says, unless `give_up_on` includes it. Raises DefinitionError if `after` is not a duration.
    """

    def __init__(self, why: str = "", *, after: Duration | None = None) -> None:
        super().__init__(why)
        self.after = after
        try:
            self.after_micros: int | None = None if after is None else micros(after, "Retry: after")
        except ValueError as error:
            raise DefinitionError(f"{error}.") from None


class Abort(Exception):
    """Raise it in a function to fail its node at once, without further attempts."""

    def __init__(self, why: str = "") -> None:
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class Suspended:
    """Return it from a handler to suspend its work until a signal with the name of the step, entry, loop or route.

    The handler is then called again, with `snapshot`, a JSON value, in `ctx.results[ctx.step]`. A mapping with
    `status == "suspended"` and a `state` has the same effect, and is the snapshot itself.
    """

    snapshot: object = None


@dataclass(frozen=True, slots=True, init=False)
class Backoff:
    """Exponential delays between attempts: `initial * factor ** k`, at most `maximum`, ± the share `jitter`. Frozen.

    `initial` and `maximum` are durations, `factor` is a number >= 1, `jitter` from 0 to 1. Raises DefinitionError for
    other values.
    """

    initial: Duration
    factor: float
    maximum: Duration
    jitter: float
    _initial: int = field(repr=False, compare=False)
    _maximum: int = field(repr=False, compare=False)

    def __init__(self, initial: Duration = 1, factor: float = 2, maximum: Duration = 300, jitter: float = 0.1) -> None:
        try:
            first, most = micros(initial, "Backoff: initial"), micros(maximum, "Backoff: maximum")
        except ValueError as error:
            raise DefinitionError(f"{error}.") from None
        if not is_number(factor) or factor < 1:
            raise DefinitionError(f"Backoff: factor must be a number >= 1, got {shown(factor)}.")
        if not is_number(jitter) or not 0 <= jitter <= 1:
            raise DefinitionError(f"Backoff: jitter must be a number from 0 to 1, got {shown(jitter)}.")
        values = {"initial": initial, "factor": factor, "maximum": maximum, "jitter": jitter}
        for name, value in {**values, "_initial": first, "_maximum": most}.items():
            object.__setattr__(self, name, value)

    def delay(self, failed: int, draw: float) -> int:
        """The delay in microseconds after failed attempt number `failed`, from 1; `draw` is random, from 0 to 1."""
        if self._initial == 0:
            return 0
        try:
            wait = min(self._initial * float(self.factor) ** (failed - 1), float(self._maximum))
        except OverflowError:
            wait = float(self._maximum)
        return round(wait * (1 + self.jitter * (2 * draw - 1)))


@dataclass(frozen=True, slots=True)
class Linear:
    """Waits of 1 s, 2 s, 3 s, … between attempts."""

    def delay(self, failed: int, draw: float) -> int:
        """Microseconds to wait after the `failed`th failed attempt (from 1)."""
        return failed * _SECOND


@dataclass(frozen=True, slots=True)
class Constant:
    """The same wait after every failed attempt, in microseconds."""

    wait: int

    def delay(self, failed: int, draw: float) -> int:
        """Microseconds to wait after a failed attempt."""
        return self.wait


@dataclass(frozen=True, slots=True)
class Policy:
    """How often and how long a node's functions are attempted; durations in microseconds, None: the app's."""

    max_retries: int = 3
    backoff: Backoff | Linear | Constant = field(default_factory=Backoff)
    timeout: int | None = None
    retry_on: ExceptionTypes = Exception
    give_up_on: ExceptionTypes = ()


class PolicyOptions(TypedDict, total=False):
    """The keywords that step, parallel, route and loop take for their policy."""

    max_retries: int
    retry_backoff: str | Backoff | Duration
    timeout: Duration | None
    retry_on: ExceptionTypes
    give_up_on: ExceptionTypes


class StepOptions(PolicyOptions, total=False):
    """What a step and a loop take besides: the types of the result, of what `Suspended` holds, and of its answer."""

    result: Any
    snapshot: Any
    resume: Any


class RouteOptions(PolicyOptions, total=False):
    """What a route takes besides: the type of its result."""

    result: Any


def types_of(types: ExceptionTypes) -> tuple[type[BaseException], ...]:
    """A class or a tuple of classes, as a tuple."""
    return types if isinstance(types, tuple) else (types,)


POLICY_OPTIONS = tuple(PolicyOptions.__annotations__)
DEFAULT_POLICY = Policy()


def policy_from(where: str, options: PolicyOptions) -> Policy:
    """The checked policy; raises DefinitionError that begins with `where`."""
    timeout = options.get("timeout")
    try:
        max_retries = count(options.get("max_retries", 3), "max_retries", 0)
        limit = None if timeout is None else micros(timeout, "timeout")
    except ValueError as error:
        raise DefinitionError(f"{where}: {error}.") from None
    if limit == 0:
        raise DefinitionError(f"{where}: timeout must be greater than 0, got {shown(timeout)}.")
    retry_on = _exception_types(where, "retry_on", options.get("retry_on", Exception))
    give_up_on = _exception_types(where, "give_up_on", options.get("give_up_on", ()))
    backoff = _backoff_from(where, options.get("retry_backoff", "exponential"))
    return Policy(max_retries, backoff, limit, retry_on, give_up_on)


def _backoff_from(where: str, backoff: object) -> Backoff | Linear | Constant:
    match backoff:
        case "exponential":
            return Backoff()
        case "linear":
            return Linear()
        case Backoff():
            return backoff
        case timedelta() | int() | float() if not isinstance(backoff, bool):
            try:
                return Constant(micros(backoff, "retry_backoff"))
            except ValueError as error:
                raise DefinitionError(f"{where}: {error}.") from None
        case _:
            known = '"exponential", "linear", a Backoff or a duration'
            raise DefinitionError(f"{where}: retry_backoff must be {known}, got {shown(backoff)}.")


def _exception_types(where: str, option: str, given: object) -> ExceptionTypes:
    types = given if isinstance(given, tuple) else (given,)
    if not all(isinstance(one, type) and issubclass(one, BaseException) for one in types):
        accepted = "an exception class or a tuple of exception classes"
        raise DefinitionError(f"{where}: {option} must be {accepted}, got {shown(given)}.")
    return types
