"""The types of arguments: a JSON value (or a file or stdin with one), and a duration."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import click

from stepwell.cli.problems import CommandError

if TYPE_CHECKING:
    _ParamType: TypeAlias = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # a generic class only since click 8.4

LONGEST_SECONDS = 100 * 366 * 86_400
LONGEST_VALUE = 64_000_000
"""The most bytes read from a file or stdin, so that an endless input does not fill the memory."""
EXCERPT = 40
"""Characters of an invalid value that are shown around the error."""

_LENGTH = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


class JsonValue(_ParamType):
    """A JSON value, `@FILE` for one in a file, or `-` for one on stdin."""

    name = "json"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,  # noqa: ARG002  click's signature
    ) -> Any:
        """The parsed value; raises CommandError with one line that names the place of an error."""
        if not isinstance(value, str):
            return value
        what = str(param.name).upper() if param is not None else "the value"
        where, text = _read(what, value)
        if not text.strip():
            raise CommandError("usage", f"{where} is empty; to pass no value, write null or omit it.")
        try:
            return json.loads(text, parse_constant=_refused)
        except json.JSONDecodeError as error:
            raise CommandError("usage", f"{where} is not JSON: {_said(error)}{_hint(value)}") from None
        except RecursionError:
            raise CommandError("usage", f"{where} is nested too deeply.") from None
        except ValueError as error:
            raise CommandError("usage", f"{where} is not JSON: {error}.") from None


class Seconds(_ParamType):
    """A duration in seconds or with a unit: `90`, `1.5`, `5m`, `2h`, `30d`."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The duration in seconds."""
        if not isinstance(value, str):
            return float(value)
        found = _LENGTH.fullmatch(value.strip())
        if found is None:
            self.fail(f"expected seconds >= 0 (90, 0.5) or a duration such as 5m, 2h, 30d; got {value!r}.", param, ctx)
        seconds = float(found[1]) * _UNITS[found[2]]
        if seconds > LONGEST_SECONDS:
            self.fail(f"expected at most 100 years, got {value!r}.", param, ctx)
        return seconds


JSON_VALUE = JsonValue()
SECONDS = Seconds()


def _read(what: str, given: str) -> tuple[str, str]:
    """The name of the value for messages, and its text."""
    try:
        if given == "-":
            where, raw = f"{what} from stdin", sys.stdin.buffer.read(LONGEST_VALUE + 1)
        elif given.startswith("@"):
            where = f"{what} from {given[1:]}"
            with Path(given[1:]).open("rb") as file:
                raw = file.read(LONGEST_VALUE + 1)
        else:
            return what, given
    except OSError as error:
        why = error.strerror or str(error)
        raise CommandError("usage", f"{what}: cannot read {given[1:] or 'a file without a name'}: {why}.") from None
    if len(raw) > LONGEST_VALUE:
        raise CommandError(
            "usage", f"{where} is larger than {LONGEST_VALUE:,} bytes; pass a reference to the data instead."
        )
    try:
        return where, raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        bad = f"byte {error.start + 1} is {raw[error.start]:#04x}"
        raise CommandError("usage", f"{where} is not UTF-8: {bad}.") from None


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _said(error: json.JSONDecodeError) -> str:
    line = error.doc.splitlines()[error.lineno - 1] if error.doc.strip() else ""
    begin = max(error.colno - 1 - EXCERPT // 2, 0)
    excerpt = line[begin : begin + EXCERPT].strip()
    near = f", near {excerpt!r}" if excerpt and len(error.doc) > EXCERPT else ""
    return f"{error.msg} at line {error.lineno}, column {error.colno}{near}."


def _hint(given: str) -> str:
    """A hint about a common mistake in such a value."""
    if given == "-" or given.startswith("@"):
        return ""
    if given and all(c.isalnum() or c in " _-." for c in given):
        return f" Text needs quotes: '\"{given}\"'."
    if "'" in given or (given.startswith("{") and '"' not in given):
        return " JSON needs double quotes; put single quotes around the whole value for the shell."
    return ""
