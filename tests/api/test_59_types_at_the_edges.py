"""Declared types at the edges: the command line, results by function, and what is secret."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path  # noqa: TC003  pytest reads the annotation
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from pydantic import BaseModel, ConfigDict

from stepwell import Context, Durable, PayloadError, RunFailedError, Secret, StoredValueError, Workflow, durable
from stepwell.cli import cli
from stepwell.testing import Harness

APP = """
from datetime import datetime
from decimal import Decimal

import msgspec

from stepwell import Context, Durable, Secret, durable


class Order(msgspec.Struct):
    id: int
    due: datetime
    token: Secret[str]


class Receipt(msgspec.Struct):
    amount: Decimal
    token: Secret[str]


def charge(ctx: Context[Order]) -> Receipt:
    return Receipt(Decimal(ctx.input.id), ctx.input.token)


app = Durable("sqlite:///shop.db", [durable("order", input=Order).step("charge", charge)])
"""


def call(*arguments: str) -> Any:
    return CliRunner().invoke(cli, ["--app", "typed_shop:app", *arguments])


def test_the_command_line_reads_an_input_as_its_type_and_shows_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "typed_shop.py").write_text(APP, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    wrong = call("start", "order", '{"id": "7", "due": "2026-12-24T18:00:00Z", "token": "hunter22"}')
    assert wrong.exit_code == 2
    assert "input.id: must be int, got str" in wrong.output

    ran = call("run", "order", '{"id": 7, "due": "2026-12-24T18:00:00Z", "token": "hunter22"}', "--json")
    assert ran.exit_code == 0, ran.output
    run = json.loads(ran.stdout)
    assert run["input"] == {"id": 7, "due": "2026-12-24T18:00:00Z", "token": "***"}
    assert run["results"] == {"charge": {"amount": "7", "token": "***"}}
    shown = call("status", run["run_id"])
    assert "hunter22" not in shown.output
    assert "***" in shown.output
    for more in ((), ("--json",)):
        journal = call("journal", run["run_id"], *more)
        assert journal.exit_code == 0, journal.output
        assert "hunter22" not in journal.output
        assert '{"amount": "7", "token": "***"}' in journal.output


class Login(msgspec.Struct):
    user: str
    password: Secret[str]
    pin: Secret[int] = Secret(0)


class Model(BaseModel):
    token: Secret[str]


async def test_a_secret_is_stored_as_its_value_and_masked_in_what_is_raised() -> None:
    def connect(ctx: Context[Login]) -> None:
        assert str(ctx.input) == "Login(user='ada', password=***, pin=***)"
        raise ConnectionError(f"{ctx.input.user}:{ctx.input.password.reveal()} {ctx.input.pin.reveal()} 17 refused")

    flow = durable("flow", input=Login).step("connect", connect, max_retries=0)
    async with Harness(flow) as harness:
        run = await harness.start(flow, Login("ada", Secret("correct horse"), Secret(4711)))
        with pytest.raises(RunFailedError) as failed:
            await harness.result(run)
        stored = await harness.status(run)
    assert failed.value.error.message == "ada:*** *** 17 refused"
    assert "correct horse" not in failed.value.error.traceback
    assert stored.input == Login("ada", Secret("correct horse"), Secret(4711))
    assert repr(stored.input) == "Login(user='ada', password=***, pin=***)"


async def test_a_secret_of_a_model_comes_back() -> None:
    flow = durable("flow", input=Model).step("give", lambda ctx: ctx.input, result=Model)
    results = (await flow.run(Model(token=Secret("a")))).results
    assert results == {"give": Model(token=Secret("a"))}
    assert results["give"].token.reveal() == "a"
    assert "'a'" not in repr(results)


def one(ctx: Context[Any]) -> int:
    return 1


def other(ctx: Context[Any]) -> datetime:
    return datetime(2026, 12, 1, tzinfo=UTC)


def asking(function: Any, seen: list[str]) -> Any:
    def ask(ctx: Context[Any]) -> None:
        try:
            seen.append(str(ctx.result(function)))
        except LookupError as error:
            seen.append(str(error))

    return ask


async def test_a_result_is_found_by_its_function_or_an_error_names_the_nodes() -> None:
    seen: list[str] = []
    flow: Workflow[Any] = (
        durable("flow")
        .step("early", asking(other, seen))
        .step("first", one)
        .parallel("both", {"second": one})
        .route("way", lambda ctx: "a", {"a": other})
        .step("twice", asking(one, seen))
        .step("once", asking(other, seen))
        .step("never", asking(print, seen))
    )
    await flow.run()
    assert seen == [
        "way, whose handler is other, has not completed. Known here: none.",
        "one is the handler of several nodes: first, second. Read ctx.results[name].",
        "2026-12-01 00:00:00+00:00",
        "print is the handler of no node of workflow flow.",
    ]


async def test_the_result_of_a_skipped_node_is_none_and_not_found_by_its_function() -> None:
    seen: list[str] = []

    def look(ctx: Context[Any]) -> None:
        seen.append(repr(ctx.results["skipped"]))

    flow = durable("flow").step("skipped", other, when=lambda ctx: False).step("look", look)
    flow.step("ask", asking(other, seen))
    async with Harness(flow) as harness:
        results = await harness.run_until_end(await harness.start(flow))
    assert results["skipped"] is None
    assert seen[0] == "None"
    assert seen[1].startswith("skipped, whose handler is other, has not completed.")


async def test_start_checks_the_input_before_anything_is_written(tmp_path: Path) -> None:
    flow = durable("flow", input=Decimal).step("one", one)
    async with Durable(f"sqlite:///{tmp_path / 'runs.db'}", [flow]) as app:
        with pytest.raises(Exception, match=r"^input: must be Decimal, got str 'x'$"):
            await app.start("flow", "x")
        with pytest.raises(Exception, match=r"^inputs\[1\]: must be Decimal, got None$"):
            await app.start_many(flow, [Decimal(1), None])
        assert await app.list() == []


def test_the_error_of_a_stored_value_tells_its_facts() -> None:
    error = StoredValueError("run", "results.a", "Order", "must be int")
    assert (error.run_id, error.place, error.type, error.code) == ("run", "results.a", "Order", "stored_value")
    assert "results.a does not decode as Order: must be int" in str(error)


class Parcel(BaseModel):
    weight: Decimal


async def test_the_result_of_a_child_that_is_a_model_is_given_back_as_one() -> None:
    packing = durable("packing")

    @packing.step("pack")
    def pack(ctx: Context) -> Parcel:
        return Parcel(weight=Decimal("1.50"))

    order = durable("order").child_workflow("packed", packing)

    @order.step("weigh")
    def weigh(ctx: Context) -> Decimal:
        packed: Parcel = ctx.results["packed"]["pack"]
        return packed.weight

    async with Durable("sqlite://", [order, packing]) as app:
        started = await app.start("order")
        async with app.worker():
            results = await app.result(started.run_id, timeout=30)
        shown = (await app.status(started.run_id)).results

    assert results == {"packed": {"pack": Parcel(weight=Decimal("1.50"))}, "weigh": Decimal("1.50")}
    assert shown == results


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    id: int


async def test_a_field_beside_those_of_a_model_comes_back_equal_or_is_refused() -> None:
    flow = durable("flow", input=Open)
    flow.step("give", lambda ctx: ctx.input, result=Open)
    due = datetime(2026, 12, 24, tzinfo=UTC)
    async with Durable("sqlite://", [flow]) as app, app.worker():
        assert await app.run("flow", Open.model_validate({"id": 1, "by": ["me"]})) == {
            "give": Open.model_validate({"id": 1, "by": ["me"]})
        }
        with pytest.raises(PayloadError, match=r"^input\.due: datetime .* would come back as str "):
            await app.start("flow", Open.model_validate({"id": 1, "due": due}))
