"""Tests that the statuses in the SQL of both stores are those of `core/statuses.py`, and change as its table says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from stepwell.core.statuses import ENDED, FIRST, LIVE, TRANSITIONS
from stepwell.reading.records import RunStatus
from tests.architecture.sources import PACKAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

STORES = ("sqlite", "postgres")
VERBS = {"claims": "claim", "commits": "commit", "signals": "deliver"}
"""By the file of a statement that changes a status; `cancel` stands beside the signals."""
LISTS = re.compile(r"\bstatus (NOT )?IN \(([^()]*)\)")
CASE_OF = re.compile(r"\bstatus = CASE (?:\w+\.)?status WHEN '(\w+)' THEN '(\w+)' ELSE")
CASE_WHEN = re.compile(r"\bstatus = CASE WHEN (.*?) THEN '(\w+)' ELSE", re.DOTALL)
WORD = re.compile(r"\bSET status = '(\w+)'")
WRITTEN = re.compile(r"\bstatus = (?:CASE\b|'\w+',)")
KNOWN = re.compile(r"\bstatus = '(\w+)'")


def statements(store: str) -> Iterator[tuple[str, str, str]]:
    """The store's statements: the file, the name, the SQL."""
    for path in sorted((PACKAGE / "store" / store / "queries").glob("*.sql")):
        for part in path.read_text(encoding="utf-8").split("-- name: ")[1:]:
            name, _, sql = part.partition("\n")
            yield path.stem, name, sql


def changes_in(sql: str) -> Iterator[tuple[str, str]]:
    """The statuses before and after each change that the statement contains in words."""
    yield from ((before, after) for before, after in CASE_OF.findall(sql))
    for condition, after in CASE_WHEN.findall(sql):
        # A condition that is named elsewhere in the statement names its status there.
        befores = KNOWN.findall(condition) or re.findall(r"\bstatus = '(\w+)'[^,]*? AS wakes\b", sql)
        assert befores, f"the status before {after} is not known: {condition}"
        yield from ((before, after) for before in befores)
    yield from ((before, after) for after in WORD.findall(sql) for before in LIVE)


@pytest.mark.parametrize("store", STORES)
def test_lists_of_statuses_are_those_that_live_or_have_ended(store: str) -> None:
    found = [
        (name, bool(negated), set(re.findall(r"'(\w+)'", words)))
        for _, name, sql in statements(store)
        for negated, words in LISTS.findall(sql)
    ]
    assert len(found) > 4
    assert [one for one in found if one[2] != (ENDED if one[1] else LIVE)] == []


@pytest.mark.parametrize("store", STORES)
def test_each_status_that_sql_contains_is_written_as_the_table_says(store: str) -> None:
    found: set[tuple[str, str, str]] = set()
    for file, name, sql in statements(store):
        for before, after in changes_in(sql):
            found.add(("cancel" if name.startswith("cancel") else VERBS[file], before, after))
    table = {(verb, before, one.after) for before, all_of in TRANSITIONS.items() for one in all_of for verb in one.by}
    assert found <= table
    assert {one for one in table if one[0] != "commit"} <= found


@pytest.mark.parametrize("store", STORES)
def test_a_started_run_has_the_first_status(store: str) -> None:
    values = re.compile(r"'(\w+)', 0, 0, 0, 0, 0")
    text = (PACKAGE / "store" / store / "sql.py").read_text(encoding="utf-8")
    assert set(values.findall(text)) == {FIRST}


@pytest.mark.parametrize("store", STORES)
def test_no_other_statement_writes_a_status(store: str) -> None:
    """What the patterns above do not see would not be compared."""
    for file, name, sql in statements(store):
        body = re.sub(r"--.*", "", sql)
        updates = re.search(r"\bUPDATE\b", body)
        if updates is not None and WRITTEN.search(body[updates.start() :]):
            assert file in VERBS, f"{name} in {file}.sql changes a status"


def test_the_public_statuses_are_those_of_the_table() -> None:
    assert {status.value for status in RunStatus} == set(TRANSITIONS)
