"""The flat path: what the steps of a plan need that are usual in every way, in a table that is made once.

A step is plain when nothing is asked before its call and its handler is async. Where a run comes to a plain step with
nothing behind it there (no attempt, no suspension, no wait, no crash), `decide` can only say: call the handler. And
where the handler gives a value, its end can only be one completed row. So these are said by a table, without a
decision, a call or a script. Whatever else comes is decided by `decide`, from the same state.

Rule 1: rows and state are those of the general path, byte for byte (`tests/integration/test_flat_path.py`).
Rule 2: `next_step` looks only at where the run is, so a run may be taken onto the flat path only if `is_usual`.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepwell.core.state import RunState
    from stepwell.core.sub_steps import SubStepNames
    from stepwell.workflow.declared import DeclaredType
    from stepwell.workflow.nodes import Function
    from stepwell.workflow.policy import Policy


class PlainStep(NamedTuple):
    """A step that the flat path can call; `place` is how messages name its result."""

    name: str
    handler: Function
    place: str
    policy: Policy
    is_undone: bool
    type: DeclaredType | None = None


class PlainCall:
    """What a context tells of the first attempt at a plain step."""

    __slots__ = ("results", "run_id", "step", "sub_steps")
    kind = "step"
    attempt = 1
    iteration = None
    resumed_with = None
    undoes: tuple[str, ...] = ()
    sub_steps: SubStepNames
    """Those that the attempt has begun; not set before the first, so that other steps cost nothing."""

    def __init__(self, run_id: str, step: str, results: Mapping[str, bytes]) -> None:
        self.run_id: str = run_id
        self.step: str = step
        self.results: Mapping[str, bytes] = results

    @property
    def key(self) -> str:
        """The idempotency key."""
        return f"{self.run_id}/{self.step}"


def is_async(function: Function) -> bool:
    """Whether it is called on the event loop, rather than in a thread."""
    called = getattr(function, "__call__", None)  # noqa: B004  it is inspected, not tested for
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def is_usual(state: RunState) -> bool:
    """Whether the run is at a plain step, with nothing behind it there but that it came."""
    return (
        state.position < len(state.plan.nodes)
        and state.plan.plain[state.position] is not None
        and state.status == "running"
        and state.failed is None
        and not state.is_canceling
        and state.parked is None
        and not state.crashes
        and not state.progress
        and not state.in_flight
        and not state.admitted
    )
