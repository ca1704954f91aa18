"""Checks of the arguments of `Durable`: each returns the value as the engine uses it, or names it in an error."""

from __future__ import annotations

from stepwell.errors import DefinitionError, RunNotFoundError
from stepwell.workflow.durations import micros
from stepwell.workflow.numbers import count, shown

_KEY_LIMIT = 500
_OWNER, _EVERYBODY = 0o600, 0o777


def checked_run_id(run_id: object) -> str:
    """The id of a run, as given; raises RunNotFoundError for what is no id of any run."""
    if not isinstance(run_id, str):
        raise RunNotFoundError(run_id)
    try:
        run_id.encode()
    except UnicodeEncodeError:
        raise RunNotFoundError(ascii(run_id)) from None
    return run_id


def checked_key(key: object) -> str | None:
    """The key, as given; raises DefinitionError for what cannot be one."""
    if key is None:
        return None
    fits = isinstance(key, str) and 0 < len(key) <= _KEY_LIMIT and "\0" not in key
    if not fits or key != str(key).encode("utf-8", "replace").decode():
        raise DefinitionError(f"key must be a string of 1 to {_KEY_LIMIT} characters without NUL, got {shown(key)}.")
    return str(key)


def checked_duration(what: str, given: object) -> int:
    """A duration in microseconds; raises DefinitionError, naming `what`."""
    try:
        return micros(given, what)
    except ValueError as error:
        raise DefinitionError(f"{error}.") from None


def checked_positive_duration(what: str, given: object) -> int:
    """A duration above zero in microseconds; raises DefinitionError, naming `what`."""
    length = checked_duration(what, given)
    if length == 0:
        raise DefinitionError(f"{what} must be above 0, got {shown(given)}.")
    return length


def checked_count(what: str, given: object) -> int:
    """An integer from 1 to a billion; raises DefinitionError, naming `what`."""
    try:
        return count(given, what)
    except ValueError as error:
        raise DefinitionError(f"{error}.") from None


def checked_file_mode(given: object) -> int:
    """The permissions of a store's files; raises DefinitionError where their owner cannot read and write."""
    if isinstance(given, int) and not isinstance(given, bool):
        if 0 <= given <= _EVERYBODY and given & _OWNER == _OWNER:
            return given
        given = oct(given)
    raise DefinitionError(
        f"file_mode must be permissions by which the owner reads and writes, as 0o600 or 0o660, got {given!s:.100}."
    )
