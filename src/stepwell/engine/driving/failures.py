"""From an exception that a user's function raised to the `Failure` that is journaled; never raises itself."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stepwell.errors import Failure, StoredValueError
from stepwell.workflow.secret import masked

if TYPE_CHECKING:
    from types import TracebackType

_OWN = str(Path(__file__).parent)
_MESSAGE_LIMIT = 2_000
_TRACEBACK_LIMIT = 16_000


def raised_in(kind: Literal["coroutine", "generator"], error: BaseException) -> BaseException:
    """What the user's code raised: a StopIteration that left a coroutine or generator is a RuntimeError by then."""
    if type(error) is RuntimeError and error.args == (f"{kind} raised StopIteration",):
        return error.__cause__ or error
    return error


def is_unreadable(error: BaseException, run_id: str) -> bool:
    """Whether it says that a value of this very run does not decode here."""
    return isinstance(error, StoredValueError) and error.run_id == run_id


def failure_of(error: BaseException, node: str) -> Failure:
    """The failure, with texts that any store can keep, whatever the exception's own methods do."""
    name = type(error).__name__
    return Failure(node, _clean(name, 200), _clean(_message(error), _MESSAGE_LIMIT), _traceback(error))


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:  # noqa: BLE001  a user's exception may raise anything when it is asked
        return f"<no message: its __str__ raised {type(broken).__name__}>"


def _traceback(error: BaseException) -> str:
    try:
        error.__traceback__ = _beyond_own(error.__traceback__)
        text = "".join(traceback.format_exception(error))
    except BaseException as broken:  # noqa: BLE001  a user's exception may raise anything when it is asked
        return f"<no traceback: formatting it raised {type(broken).__name__}>"
    if len(text) > _TRACEBACK_LIMIT:
        half = _TRACEBACK_LIMIT // 2
        text = f"{text[:half]}\n  …\n{text[-half:]}"
    return _clean(text, _TRACEBACK_LIMIT + 10)


def _beyond_own(frames: TracebackType | None) -> TracebackType | None:
    """The user's frames: those of the engine that called them say nothing."""
    found = frames
    while found is not None and found.tb_frame.f_code.co_filename.startswith(_OWN):
        found = found.tb_next
    return found or frames


def _clean(text: str, limit: int) -> str:
    text = masked(text)
    kept = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return kept.replace("\0", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode("utf-8")
