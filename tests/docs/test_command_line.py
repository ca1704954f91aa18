"""docs/command-line.md and `stepwell --help` say the same: every command, every option, every exit code."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from stepwell.cli import cli
from stepwell.cli.problems import Exit
from tests.api.command_line import commands

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
SHARED = ("--app", "--url", "--json", "--help", "-h", "--version")


COMMANDS = dict(commands(cli, "stepwell"))


def section(path: str) -> str:
    """The part of the page that is about one command."""
    found = re.search(rf"^## {re.escape(path)}(?: [A-Z\[][^\n]*)?\n.*?(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"there is no section {path}"
    return found[0]


def options(command: click.Command) -> list[str]:
    """The command's own options."""
    shown = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    found = [opt for each in shown for opt in each.opts]
    return [opt for opt in found if opt not in SHARED]


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_a_section_with_its_arguments_in_the_title(path: str) -> None:
    context = click.Context(COMMANDS[path], info_name=path)
    arguments = [p.make_metavar(context) for p in COMMANDS[path].params if isinstance(p, click.Argument)]

    assert section(path).splitlines()[0] == " ".join(["##", path, *arguments])


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_of_a_command_is_in_its_section_and_no_other(path: str) -> None:
    told = re.findall(r"^\| `(--[a-z-]+)", section(path), re.MULTILINE)

    assert sorted(told) == sorted(options(COMMANDS[path]))


@pytest.mark.parametrize("path", COMMANDS)
def test_the_default_of_an_option_is_told(path: str) -> None:
    for parameter in COMMANDS[path].params:
        if isinstance(parameter, click.Option) and parameter.show_default is True:
            assert re.search(rf"^\| `{parameter.opts[0]}[^|]*\| {parameter.default} \|", section(path), re.MULTILINE)


def test_the_page_tells_of_no_command_that_is_not_there() -> None:
    told = re.findall(r"^## (stepwell [a-z ]+[a-z])", PAGE, re.MULTILINE)

    assert sorted(told) == sorted(COMMANDS)


@pytest.mark.parametrize("option", SHARED)
def test_every_shared_option_is_told(option: str) -> None:
    assert f"`{option}" in PAGE.split("\n## ")[1]


@pytest.mark.parametrize("code", [code for code in Exit if code is not Exit.SIGNALED])
def test_every_exit_code_is_told_on_the_page_and_in_the_help(code: Exit) -> None:
    assert f"\n| {code:d} | " in PAGE
    assert f"\n      {code:d}  " in (cli.epilog or "")


def test_the_codes_of_the_command_lines_own_errors_are_told() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src" / "stepwell" / "cli").glob("*.py"))
    codes = set(re.findall(r"(?:CommandError|report)\(\s*\"(\w+)\"", sources))

    assert codes == set(re.findall(r"^\| `([a-z_]+)` \|", PAGE, re.MULTILINE))
