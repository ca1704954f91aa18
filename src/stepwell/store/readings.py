"""How the values of a workflow's runs are given back: by the app's codec, as the types that its definition declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.errors import PayloadError, StoredValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepwell.core.plan import Plan
    from stepwell.store.codec import Codec
    from stepwell.workflow.declared import DeclaredType, ValueType


class PlanReading:
    """Gives back the values of one plan's runs; made once for each plan and codec."""

    __slots__ = ("_codec", "decode", "input", "named", "results", "resumes", "snapshots", "workflow")

    def __init__(self, codec: Codec, plan: Plan) -> None:
        types = plan.types
        self._codec = codec
        self.workflow: str = plan.name
        self.decode: Callable[[bytes], Any] = codec.decode
        self.input: DeclaredType | None = types.input
        self.results: Mapping[str, ValueType] = types.results
        self.snapshots: Mapping[str, ValueType] = types.snapshots
        self.resumes: Mapping[str, ValueType] = types.resumes
        self.named: Callable[[object], list[str]] = types.named

    def decode_as(self, type_: ValueType, data: bytes, run_id: str, place: str) -> Any:
        """A fresh copy of a declared value; raises StoredValueError."""
        try:
            return self._codec.decode_as(type_, data, place)
        except PayloadError as error:
            raise StoredValueError(run_id, error.place, type_.name, error.reason) from None

    def check_input(self, data: bytes, run_id: str) -> None:
        """Raises StoredValueError for an input that is not as it is declared."""
        if self.input is not None:
            self.decode_as(self.input, data, run_id, "input")


class Readings:
    """The readings of one app's plans, by the names of their workflows; each made once."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._known: dict[str, PlanReading] = {}

    def of(self, plan: Plan) -> PlanReading:
        """The reading of a plan."""
        found = self._known.get(plan.name)
        if found is None:
            found = self._known[plan.name] = PlanReading(self._codec, plan)
        return found
