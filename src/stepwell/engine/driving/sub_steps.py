"""Sub-steps: functions that a handler runs by its context, each journaled by itself before its value is given.

Rule 1: a value is given only once its row is durable, and then the function is not called again: an attempt that comes
to the same sub-step is given the row's value (I17). Rule 2: what a function raises is not journaled; it is the
handler's. Rule 3: the value is what the row says, decoded: an attempt cannot tell whether its function was called. Rule
4: nothing is written by an attempt that is over; the channel refuses it.
"""

from __future__ import annotations

import hashlib
import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from stepwell.core.journal import JournalRow, sub_step_row
from stepwell.core.sub_steps import SubStepNames, sub_step_of, work_of
from stepwell.engine.driving.channel import Kept
from stepwell.errors import DefinitionError, PayloadError, StoredValueError
from stepwell.store.logs import logger
from stepwell.workflow.annotations import UNDECLARED, Declaration, result_of
from stepwell.workflow.checks import checked_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell.core.state import RunState
    from stepwell.engine.driving.channels import Channels
    from stepwell.store.codec import Codec
    from stepwell.workflow.context import Facts

ON_DRIFT = ("warn", "fail", "ignore")
_MOST_KEY = 200
_log = logger("stepwell.run")


class Named(NamedTuple):
    """A sub-step that begins: its name in the journal, the digest of its arguments, and its row if there is one."""

    named: str
    digest: bytes | None
    row: JournalRow | None
    started_at: int


class _Keep(NamedTuple):
    """A question: a sub-step's value is to be journaled."""

    begun: Named
    value: bytes

    def reply(self, state: RunState, facts: Any, now: int) -> Kept:
        """Its row."""
        begun = self.begun
        work = work_of(facts)
        return Kept(
            sub_step_row(state, work, begun.named, facts.attempt, self.value, begun.digest, begun.started_at, now)
        )


class SubSteps:
    """Runs the sub-steps of the handlers of one worker."""

    def __init__(self, channels: Channels, codec: Codec, on_drift: str) -> None:
        self._channels = channels
        self._codec = codec
        self._on_drift = on_drift

    async def run(self, run_id: str, facts: Any, call: SubCall) -> Any:
        """What the function gives, or has given; in an async handler."""
        begun = self.begin(run_id, facts, call)
        try:
            declaration = call.declaration
            if begun.row is not None:
                return self._given_back(run_id, facts, begun, declaration)
            value = call.make()
            if inspect.isawaitable(value):
                value = await value
            encoded = self._encoded(facts, begun, value, declaration)
            await self._channels.ask(run_id, facts, _Keep(begun, encoded))
            return self._decoded(run_id, facts, begun, encoded, declaration)
        finally:
            facts.sub_steps.end(begun.named)

    def run_blocking(self, run_id: str, facts: Any, call: SubCall) -> Any:
        """The same in a plain handler, in its thread."""
        begun: Named = self._channels.call(run_id, facts, lambda: self.begin(run_id, facts, call))
        try:
            declaration = call.declaration
            if begun.row is not None:
                return self._given_back(run_id, facts, begun, declaration)
            encoded = self._encoded(facts, begun, call.make(), declaration)
            self._channels.ask_blocking(run_id, facts, _Keep(begun, encoded))
            return self._decoded(run_id, facts, begun, encoded, declaration)
        finally:
            facts.sub_steps.end(begun.named)

    def begin(self, run_id: str, facts: Any, call: SubCall) -> Named:
        """Names the sub-step and looks for its row; on the event loop. Raises AttemptOverError and DefinitionError."""
        desk = self._channels.desk(run_id, facts)
        work = work_of(facts)
        if not getattr(facts, "was_called", True):  # of what is asked before the handler: a condition, a mapper
            raise DefinitionError(f"{facts.step} of run {run_id}: ctx.run is for handlers and compensators.")
        if getattr(facts, "sub_steps", None) is None:
            facts.sub_steps = SubStepNames()
        named = facts.sub_steps.begin(checked_name(call.name, "A sub-step's name"), _checked_key(call.key))
        return Named(named, call.digest, sub_step_of(desk.state, work, named), desk.now())

    def _given_back(self, run_id: str, facts: Facts, begun: Named, declaration: Declaration) -> Any:
        row = begun.row
        assert row is not None  # noqa: S101  asked by the caller
        if self._on_drift != "ignore" and None not in {row.detail, begun.digest} and row.detail != begun.digest:
            text = (
                f"{_place(facts, begun)} of run {run_id} comes with other arguments than those with which its value was"
                " journaled"
            )
            if self._on_drift == "fail":
                raise DefinitionError(f"{text}: the handler does not do the same again.")
            _log.warning("%s; the journaled value is used.", text)
        return self._decoded(run_id, facts, begun, row.value or b"null", declaration)

    def _encoded(self, facts: Facts, begun: Named, value: Any, declaration: Declaration) -> bytes:
        return self._codec.encode_result(value, _place(facts, begun), declaration)

    def _decoded(self, run_id: str, facts: Facts, begun: Named, value: bytes, declaration: Declaration) -> Any:
        if declaration.type is None:
            return self._codec.decode(value)
        place = _place(facts, begun)
        try:
            return self._codec.decode_as(declaration.type, value, place)
        except PayloadError as error:
            raise StoredValueError(run_id, error.place, declaration.type.name, error.reason) from None


class SubCall(NamedTuple):
    """What a handler asks for: the function with its arguments, under a name."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    named: dict[str, Any]
    key: str | None

    def make(self) -> Any:
        """Calls it."""
        return self.function(*self.arguments, **self.named)

    @property
    def declaration(self) -> Declaration:
        """What the function's annotation says that it gives."""
        if "return" not in getattr(self.function, "__annotations__", {"return"}):
            return UNDECLARED
        return result_of(f"sub-step {self.name}", self.function)

    @property
    def digest(self) -> bytes | None:
        """Of the arguments, whatever the order of names in them; None where they cannot be told as JSON."""
        if not self.arguments and not self.named:
            return None
        try:
            told = msgspec.json.encode([self.arguments, self.named], order="deterministic")
        except (TypeError, ValueError, OverflowError, RecursionError):
            return None
        return hashlib.blake2b(told, digest_size=12).hexdigest().encode()


def checked_on_drift(given: object) -> str:
    """The option `on_drift`; raises DefinitionError."""
    if given not in ON_DRIFT:
        raise DefinitionError(f"on_drift must be one of {', '.join(ON_DRIFT)}, got {given!r:.100}.")
    return str(given)


def _checked_key(key: object) -> str | None:
    if key is None:
        return None
    if not isinstance(key, str) or not 0 < len(key) <= _MOST_KEY or not key.isprintable():
        raise DefinitionError(f"The key of a sub-step must be 1 to {_MOST_KEY} printable characters, got {key!r:.100}.")
    return key


def _place(facts: Facts, begun: Named) -> str:
    return f"{facts.step}/{begun.named}"
