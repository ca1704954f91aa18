"""What `step` and `loop` return when they are called without a handler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from stepwell.workflow.context import In

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell.workflow.context import Context

R = TypeVar("R")
V = TypeVar("V")


class HandlerDecorator(Generic[In]):
    """Takes the handler that `step` was called without, and returns it unchanged."""

    def __init__(self, add: Callable[[Any], object]) -> None:
        self._add = add

    def __call__(self, handler: Callable[[Context[In]], R]) -> Callable[[Context[In]], R]:
        """Adds the node."""
        self._add(handler)
        return handler


class IterationDecorator(Generic[In]):
    """Takes the handler that `loop` was called without, and returns it unchanged."""

    def __init__(self, add: Callable[[Any], object]) -> None:
        self._add = add

    def __call__(self, handler: Callable[[V, Context[In]], R]) -> Callable[[V, Context[In]], R]:
        """Adds the node."""
        self._add(handler)
        return handler
