"""`Secret`: a value that is stored like any other, and never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
MASK = "***"
SHORTEST_MASKED = 4
"""A shorter text is not masked in messages: a secret `1` would hide every count and index, and stay guessable."""
# Every secret that is alive, so that the text of an error can be masked wherever the secret came from. It only grows
# and shrinks with the objects themselves.
_alive: WeakSet[Secret[Any]] = WeakSet()


class Secret(Generic[T]):
    """A value that is shown as `***` everywhere, a field's type: `Secret[str]`. Stored as a plain `str` is.

    Two are equal if their values are. While it exists, its text is masked in what is journaled and logged of an
    exception, too, if it has at least four characters.
    """

    __slots__ = ("__weakref__", "_value")

    def __init__(self, value: T) -> None:
        self._value = value
        _alive.add(self)

    def reveal(self) -> T:
        """Returns the value."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and bool(self._value == other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __reduce__(self) -> tuple[Callable[[], str], tuple[()]]:
        raise TypeError("A Secret is not pickled.")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], Any]) -> Any:
        """How a pydantic model keeps it in a field; asked by pydantic."""
        from stepwell.workflow.pydantic_models import secret_schema  # noqa: PLC0415  only where pydantic asks for it

        return secret_schema(cls, source, handler)


def masked(text: str) -> str:
    """The text with `***` for the texts of all secrets that are alive."""
    if not _alive:
        return text
    hidden = {part for secret in tuple(_alive) for part in _texts(secret.reveal()) if len(part) >= SHORTEST_MASKED}
    for part in sorted(hidden, key=len, reverse=True):
        text = text.replace(part, MASK)
    return text


def _texts(value: object) -> set[str]:
    """How the value can stand in a message: as it is, and as Python shows it."""
    try:
        texts = {str(value), repr(value), repr(value)[1:-1] if isinstance(value, str) else ""}
    except Exception:  # noqa: BLE001  a value's own methods may raise anything
        return set()
    return {text for text in texts if text.strip() and text not in {"None", "True", "False"}}
