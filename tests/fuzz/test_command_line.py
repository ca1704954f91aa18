"""The command line takes whatever is typed: exit codes 0 to 4, one line for a mistake, no traceback."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.cli.root import COMMANDS
from stepwell.cli.stopping import Stopping
from tests.api.command_line import UNKNOWN, Answer, Shop, shop_in
from tests.fuzz.profile import examples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CODES = frozenset(range(5))
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
ODD_TEXTS = st.text(st.characters(exclude_characters="\0"), max_size=6)
"""With half characters, as arguments have them that are no UTF-8."""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A shop, where a worker that is asked to work until it is stopped is stopped at once."""

    async def at_once(_stopping: Stopping) -> None:
        return

    monkeypatch.setattr(Stopping, "asked", at_once)
    monkeypatch.setattr(Stopping, "exit_code", 0)
    for shop in shop_in(tmp_path, monkeypatch):
        shop.start("signoff", '{"id": 1}', "--key", "k")
        yield shop


def check(answer: Answer, arguments: list[str]) -> None:
    """Fails for anything but an answer, or a mistake that is told in one line."""
    assert answer.code in CODES, (arguments, answer)
    assert "Traceback" not in answer.out + answer.err, (arguments, answer)
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if answer.code == 0 or "--help" in before:
        return
    if "--json" in before:
        errors = [line for line in answer.err.splitlines() if line.startswith("{")]
        assert len(errors) == 1 or (answer.code == 1 and answer.json["accepted"] is False), (arguments, answer)
        for error in errors:
            assert set(json.loads(error)["error"]) == {"code", "message"}
    else:
        (line,) = [line for line in answer.err.splitlines() if line.startswith(("Error: ", "Usage: "))]
        assert line.isprintable(), (arguments, answer)


APP = ["--app", "shop:app"]
SHORT = [name for name in COMMANDS if name not in {"demo", "worker"}]
COMMAND = st.sampled_from([*SHORT, "worke", "db status", ""])
OPTION = st.sampled_from(["--app", "--url", "--json", "--help", "--version", "--key", "--delay", "--limit", "--status"])
OTHER_OPTION = st.sampled_from(["--workflow", "--before", "--parent", "--traceback", "--from", "--", "-", "-h", "--no"])
PLACE = st.sampled_from(
    ["shop:app", "shop:make", "shop:none", "shop", ":", "no.such:app", "sqlite:///shop.db", "sqlite:"]
)
NAME = st.sampled_from(
    ["order", "signoff", "founder-signoff", UNKNOWN, UNKNOWN[:8], "suspended", "upgrade", "shop:app.x"]
)
VALUE = st.sampled_from(
    ["1", "-1", "1e3", "5m", "{}", "null", "[1", "@shop.py", "@none", "@", "@.", "9" * 30, '"x"', "NaN"]
)
ARGUMENTS = OPTION | OTHER_OPTION | PLACE | NAME | VALUE | TEXTS | ODD_TEXTS


def test_any_arguments_are_answered(shop: Shop) -> None:
    @examples(100)
    @given(
        first=st.sampled_from([[], APP, ["--json"], ["--json", *APP], ["--url", "sqlite:///shop.db"]]),
        command=COMMAND,
        rest=st.lists(ARGUMENTS, max_size=5),
    )
    def answered(first: list[str], command: str, rest: list[str]) -> None:
        arguments = [*first, *command.split(), *rest]
        check(shop(*arguments, stdin=""), arguments)

    answered()


@pytest.mark.parametrize("option", ["--concurrency", "--threads", "--grace", "--queue", "--app"])
def test_a_worker_with_any_option_begins_or_says_why_not(shop: Shop, option: str) -> None:
    @examples(8)
    @given(value=st.sampled_from(["0", "1", "-1", "1.5", "", "x", "5m", "9" * 20, "nan", "ä", "-", "a b"]) | ODD_TEXTS)
    def begins(value: str) -> None:
        arguments = [*APP, "worker", option, value]
        check(shop(*arguments), arguments)

    begins()


JSON_TEXTS = (
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=6,
    ).map(json.dumps)
    | st.integers(1, 300).map(lambda levels: "[" * levels + "]" * levels)
    | st.sampled_from(
        ["[" * 100_000, '{"a":' * 5_000, "1" * 5_000, '"\\ud800"', '{"\\udfff":1}', "1e999", "-0.0", '{"a":1,"a":2}']
    )
)


def test_any_input_and_data_is_kept_as_it_is_or_refused(shop: Shop) -> None:
    waiting = shop.start("signoff")

    @examples(30)
    @given(text=JSON_TEXTS | TEXTS | ODD_TEXTS, from_stdin=st.booleans())
    def kept(text: str, from_stdin: bool) -> None:  # noqa: FBT001  drawn by chance
        given, stdin = (
            (("-", text.encode("utf-8", "surrogateescape")) if text.isascii() else (text, None))
            if from_stdin
            else (text, None)
        )
        start = [*APP, "--json", "start", "signoff", "--", given]
        started = shop(*start, stdin=stdin)
        check(started, start)
        if started.code == 0:
            found = shop(*APP, "--json", "status", started.json["run_id"])
            assert found.code == 0, found
            meant = json.loads(text) if given != text or not text.startswith("@") else None
            assert json.dumps(found.json["input"]) == json.dumps(meant)
            plain = shop(*APP, "status", started.json["run_id"])
            assert plain.code == 0, plain
        signal = [*APP, "--json", "signal", waiting, "founder-signoff", "--", given]
        check(shop(*signal, stdin=stdin), signal)

    kept()


def test_any_file_and_stdin_is_read_or_refused(shop: Shop) -> None:
    @examples(25)
    @given(data=st.binary(max_size=30) | JSON_TEXTS.map(str.encode), name=st.sampled_from(["in.json", "ü \n.json"]))
    def read(data: bytes, name: str) -> None:
        (shop.folder / name).write_bytes(data)
        for given_, stdin in ((f"@{name}", None), ("-", data)):
            arguments = [*APP, "start", "order", given_]
            answer = shop(*arguments, stdin=stdin)
            check(answer, arguments)
            if answer.code:
                assert "INPUT" in answer.complaint.upper(), answer

    read()


ENVIRONMENT: dict[str, Any] = {
    "STEPWELL_APP": st.sampled_from(["shop:app", "", ":", "shop", "shop:number", "shop:explodes", "os:sep"]) | TEXTS,
    "STEPWELL_URL": st.sampled_from(["sqlite:///shop.db", "", "sqlite://", "postgresql://[", "x"]) | TEXTS,
    "COLUMNS": st.sampled_from(["", "0", "1", "7", "80", "-5", "x", "²", "٣", "9" * 30, " 80 "]) | TEXTS,
    "LINES": st.sampled_from(["0", "²"]) | TEXTS,
    "NO_COLOR": TEXTS,
    "FORCE_COLOR": TEXTS,
    "TERM": TEXTS,
    "_STEPWELL_COMPLETE": st.sampled_from(["bash_source", "bash_complete", "zsh_complete", "x_source", "_", "x"])
    | TEXTS,
    "COMP_WORDS": st.sampled_from(["stepwell ", "stepwell status ", "stepwell 'un", "stepwell start "]) | TEXTS,
    "COMP_CWORD": st.sampled_from(["1", "2", "-1", "x", "9" * 20]) | TEXTS,
}


def test_any_environment_is_answered(shop: Shop) -> None:
    @examples(60)
    @given(
        environment=st.fixed_dictionaries({}, optional=ENVIRONMENT),
        arguments=st.sampled_from(
            [["list"], ["--json", "list"], ["status", UNKNOWN], ["db", "status"], ["start", "order"], [], ["recover"]]
        ),
    )
    def answered(environment: dict[str, str], arguments: list[str]) -> None:
        answer = shop(*arguments, **environment)
        if "_STEPWELL_COMPLETE" not in environment:
            check(answer, arguments)
        assert answer.code in CODES, (environment, arguments, answer)
        assert "Traceback" not in answer.out + answer.err, (environment, arguments, answer)

    answered()
