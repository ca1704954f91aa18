"""Writes `docs/reference.md` from `scripts/reference_template.md` and the docstrings of the public names.

In the template, a line `{{ Name }}` stands for the section of a public name of stepwell: its signature, its docstring,
and the docstrings of its public properties and methods. Every public name needs one such line.
"""

from __future__ import annotations

import inspect
import re
from datetime import timedelta
from enum import EnumMeta
from pathlib import Path
from typing import Any

import stepwell

TEMPLATE = Path(__file__).resolve().with_name("reference_template.md")
PAGE = TEMPLATE.parents[1] / "docs" / "reference.md"
NOTE = "<!-- Written by `make reference` from docstrings and scripts/reference_template.md: change those. -->\n\n"
LONGEST_TITLE = 80
CONSTRUCTED = {"Abort", "Backoff", "Branch", "Durable", "Retry", "Secret", "Suspended", "durable"}
"""The names that users call; the others are only received, or derived from."""

_PLACE = re.compile(r"^\{\{ (\w+) \}\}$", re.MULTILINE)
_CLASS_NAME = re.compile(r"(?<![`\w.])([A-Z][A-Za-z]+Error)\b(?!`)")


def page() -> str:
    """The whole text of the page. Raises ValueError if a public name has no place in the template."""
    template = TEMPLATE.read_text(encoding="utf-8")
    placed = _PLACE.findall(template)
    if sorted(placed) != sorted(stepwell.__all__):
        wrong = sorted(set(placed) ^ set(stepwell.__all__))
        raise ValueError(f"{TEMPLATE.name} must have one place for each public name, got a difference in {wrong}.")
    return NOTE + _PLACE.sub(lambda found: section(found[1]), template)


def section(name: str) -> str:
    """The section of one public name."""
    thing = getattr(stepwell, name)
    signature = signature_of(thing) if name in CONSTRUCTED else ""
    is_short = len(name + signature) <= LONGEST_TITLE
    parts = [f"### `{name}{signature if is_short else '(…)'}`"]
    if not is_short:
        parts.append(f"    {name}(\n        " + ",\n        ".join(arguments_of(thing)) + ",\n    )")
    if isinstance(thing, type) and issubclass(thing, stepwell.DurableError):
        parts.append(f"Code: `{thing.code}`.")
    parts.append(text_of(thing))
    if isinstance(thing, type) and not isinstance(thing, EnumMeta):
        parts += members_of(thing)
    return "\n\n".join(parts)


def members_of(owner: type) -> list[str]:
    """The public properties of a class as a list, then its public methods, each with its docstring."""
    public = {name: member for name, member in vars(owner).items() if not name.startswith("_")}
    properties = {name: one for name, one in public.items() if isinstance(one, property)}
    methods = {name: one for name, one in public.items() if inspect.isfunction(one)}
    listed = [_item(f"`{name}`: {text_of(one)}") for name, one in properties.items()]
    found = ["\n".join(listed)] if listed else []
    for name, method in methods.items():
        call = f"{name}{signature_of(method)}"
        found.append(f"**`{'await ' if inspect.iscoroutinefunction(method) else ''}{call}`**")
        found.append(text_of(method))
    return found


def text_of(thing: Any) -> str:
    """The docstring as Markdown, with the names of errors as code. Raises ValueError if there is none."""
    docstring = inspect.cleandoc(thing.__doc__ or "")
    if not docstring:
        raise ValueError(f"{thing!r} needs a docstring.")
    return _CLASS_NAME.sub(r"`\1`", docstring)


def signature_of(function: Any) -> str:
    """The signature without `self` and types."""
    return f"({', '.join(arguments_of(function))})"


def arguments_of(function: Any) -> list[str]:
    """The arguments of a call as they are written, with their defaults."""
    found: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in {"self", "unknown"}:
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in found:
            found.append("*")
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        has_default = parameter.default is not parameter.empty and parameter.name != "max_iterations"
        found.append(
            f"{stars}{parameter.name}" + (f"={_shown(parameter.name, parameter.default)}" if has_default else "")
        )
    return found


def _shown(name: str, default: Any) -> str:
    """A default as one would write it."""
    if isinstance(default, timedelta):
        return f"timedelta(seconds={default.total_seconds():g})"
    if type(default) is object:
        return "…"
    return f"{default:#o}" if name == "file_mode" else repr(default).replace("'", '"')


def _item(text: str) -> str:
    """A list item whose further lines are indented."""
    return "- " + text.replace("\n", "\n  ").replace("\n  \n", "\n\n")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(PAGE.parents[1])}")
