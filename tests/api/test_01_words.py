"""Words: one word per thing, in the public names, their fields and parameters, and the tables."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sqlite3
from typing import TYPE_CHECKING

import stepwell
from stepwell import Context, Durable, Workflow, durable
from tests.api.handlers import nothing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORBIDDEN = {word + plural for word in ("task", "job", "activity", "execution", "instance") for plural in ("", "s")} | {
    "activities"
}
PUBLIC = {
    *("durable", "Workflow", "Branch", "Context", "Backoff", "Retry", "Abort", "Suspended"),
    *("Durable", "BlockingDurable", "RunResult", "StartResult", "ResumeResult", "RunSnapshot", "RunStatus"),
    *("Entry", "Failure", "SchemaStatus", "Secret"),
    *("DurableError", "DefinitionError", "WorkflowNotRegisteredError", "RunNotFoundError", "RunFailedError"),
    *("RunCanceledError", "PayloadError", "StoreUnavailableError", "SchemaError"),
    *("Observer", "RunStarted", "RunEnded", "AttemptStarted", "AttemptEnded", "RunParked", "RunsClaimed"),
    *("BatchCommitted", "WorkerDead", "LeaseLost"),
    *("Explanation", "Reason", "Part", "Action"),
}


def words(text: str) -> set[str]:
    """The words an identifier or a text is made of, in lower case."""
    return set(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower()))


def public_identifiers() -> Iterator[str]:
    """Every public name, with the public methods, fields and parameters of what it names."""
    for name in sorted(stepwell.__all__):
        yield name
        thing = getattr(stepwell, name)
        if not inspect.isclass(thing):
            continue
        yield from (attribute for attribute in vars(thing) if not attribute.startswith("_"))
        yield from (field.name for field in dataclasses.fields(thing)) if dataclasses.is_dataclass(thing) else ()
    for owner in (Workflow, Durable, Context):
        for _, method in inspect.getmembers(owner, inspect.isfunction):
            yield from inspect.signature(method).parameters


def test_the_public_names_are_those_of_the_contract_and_further_errors_of_the_tree() -> None:
    assert set(stepwell.__all__) >= PUBLIC
    further = [getattr(stepwell, name) for name in sorted(set(stepwell.__all__) - PUBLIC)]
    assert [error for error in further if not issubclass(error, stepwell.DurableError)] == []


def test_every_public_name_exists() -> None:
    assert [name for name in stepwell.__all__ if not hasattr(stepwell, name)] == []


def test_no_public_name_field_or_parameter_uses_another_word_for_a_thing() -> None:
    identifiers = set(public_identifiers())
    assert {"run_id", "idempotency_key", "max_iterations", "concurrency"} <= identifiers
    assert {name for name in identifiers if words(name) & FORBIDDEN} == set()


async def test_no_table_column_or_index_uses_another_word_for_a_thing(tmp_path: Path) -> None:
    await Durable(f"sqlite:///{tmp_path / 'words.db'}").ensure_tables()
    with sqlite3.connect(tmp_path / "words.db") as connection:
        schema = [f"{name} {sql}" for name, sql in connection.execute("SELECT name, sql FROM sqlite_master")]
    connection.close()
    assert any("stepwell_runs" in line for line in schema)
    assert [line for line in schema if words(line) & FORBIDDEN] == []


async def test_a_workflow_is_the_definition_and_a_run_is_one_execution_of_it() -> None:
    order = durable("order").step("reserve", nothing)
    assert isinstance(order, Workflow)
    async with Durable("sqlite://", workflows=[order]) as app:
        started = [(await app.start(order)).run_id for _ in range(2)]
        assert len(set(started)) == 2
        assert {run.workflow_name for run in await app.list()} == {"order"}
