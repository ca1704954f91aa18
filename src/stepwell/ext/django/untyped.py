"""`Untyped`, which type checkers see in place of Django's classes: Django has no types of its own."""

from __future__ import annotations

from typing import Any


class Untyped:
    """A class of which each attribute and call is `Any`; nothing is made of it at run time."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError

    def __getattr__(self, _: str) -> Any:
        raise NotImplementedError
