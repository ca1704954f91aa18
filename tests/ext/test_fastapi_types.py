"""Declared types in the router: bodies are read by them, values are shown as stored, and secrets are hidden."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, Field

from stepwell import Context, Durable, PayloadError, Secret, Workflow, durable
from stepwell.ext.fastapi import router
from tests.ext.serving import ADA, by_header, events_in, served, shop_of
from tests.ext.test_fastapi import code_of, references_in
from tests.waiting import PATIENCE


class Line(msgspec.Struct):
    sku: str
    price: Decimal
    parts: list[Line] = []


class Order(msgspec.Struct):
    id: int
    due: datetime
    lines: list[Line]
    token: Secret[str]


class Card(BaseModel):
    number: Secret[str]
    holder: str = Field(alias="holderName")


class Payment(BaseModel):
    card: Card
    amount: Decimal


GIVEN: dict[str, Any] = {
    "id": 7,
    "due": "2026-12-24T12:00:00Z",
    "lines": [{"sku": "kettle", "price": "19.90", "parts": [{"sku": "lid", "price": "3.10"}]}],
    "token": "hidden-token",
}


async def test_a_body_becomes_the_declared_type_and_is_shown_as_it_is_stored() -> None:
    seen: list[Order] = []
    flow = durable("order", input=Order)

    @flow.step("price")
    async def price(ctx: Context[Order]) -> Decimal:
        seen.append(ctx.input)
        return sum((line.price for line in ctx.input.lines), Decimal(0))

    shop = shop_of("sqlite://", flow)
    async with served(shop) as client:
        started = await client.post("/runs/order", json=GIVEN, headers={**ADA, "Idempotency-Key": "k"})
        assert started.status_code == 202
        run_id = started.json()["run_id"]
        assert await shop.result(run_id, PATIENCE) == {"price": Decimal("19.90")}
        assert seen[0].due == datetime(2026, 12, 24, 12, tzinfo=UTC)
        assert seen[0].lines[0].parts == [Line("lid", Decimal("3.10"))]
        again = await client.post("/runs/order", json=GIVEN, headers={**ADA, "Idempotency-Key": "k"})
        assert (again.status_code, again.json()["created"]) == (200, False)
        shown = await client.get(f"/runs/{run_id}", headers=ADA)
        assert shown.json()["results"] == {"price": "19.90"}
        lid = {"sku": "lid", "price": "3.10", "parts": []}
        expected = {**GIVEN, "lines": [{**GIVEN["lines"][0], "parts": [lid]}], "token": "***"}
        assert shown.json()["input"] == expected
        stream = await client.get(f"/runs/{run_id}/events", headers=ADA)
        assert "hidden-token" not in stream.text + shown.text


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"id": "seven"}, "input.id"),
        ({"due": "2026-12-24"}, "input.due"),
        ({"lines": [{"sku": "kettle"}]}, "input.lines[0]"),
        ({"lines": None}, "input.lines"),
    ],
)
async def test_a_body_of_another_form_starts_nothing_and_says_where(change: dict[str, Any], place: str) -> None:
    shop = shop_of("sqlite://", durable("order", input=Order).step("a", lambda ctx: None))
    async with served(shop, worker=False) as client:
        refused = await client.post("/runs/order", json={**GIVEN, **change}, headers=ADA)
        assert (refused.status_code, code_of(refused)) == (422, "payload")
        assert refused.json()["detail"]["message"].startswith(place)
        for body in (b"", b"null", b"[]", b'"text"'):
            headers = {**ADA, "content-type": "application/json"}
            assert (await client.post("/runs/order", content=body, headers=headers)).status_code == 422
        assert await shop.list() == []


async def test_models_of_pydantic_are_read_and_their_secrets_are_not_shown() -> None:
    shop = shop_of("sqlite://", durable("pay", input=Payment).step("a", lambda ctx: None))
    async with served(shop, worker=False) as client:
        card = {"number": "4111 1111 1111 1111", "holderName": "Ada"}
        started = await client.post("/runs/pay", json={"card": card, "amount": "5.00"}, headers=ADA)
        assert started.status_code == 202
        shown = await client.get(f"/runs/{started.json()['run_id']}", headers=ADA)
        assert shown.json()["input"] == {"card": {"number": "***", "holderName": "Ada"}, "amount": "5.00"}


class Paid(msgspec.Struct):
    number: int
    receipt: Secret[str] = Secret("no receipt yet")


@pytest.mark.parametrize("is_old", [False, True], ids=["as declared", "which does not decode any more"])
async def test_the_events_of_a_run_show_no_secret_of_an_entry(is_old: object, monkeypatch: pytest.MonkeyPatch) -> None:
    part = durable("part").step("pay", lambda ctx: Paid(2, Secret("hidden-child")), result=Paid)
    flow = (
        durable("order", input=Order)
        .step("pay", lambda ctx: Paid(1, Secret("hidden-result")), result=Paid)
        .wait_for_signal("answer", "answer", payload=Paid)
        .child_workflow("part", part)
    )
    shop = shop_of("sqlite://", flow, part)
    async with served(shop) as client:
        run_id = (await client.post("/runs/order", json=GIVEN, headers=ADA)).json()["run_id"]
        body = {"number": 3, "receipt": "hidden-payload"}
        assert (await client.post(f"/runs/{run_id}/signals/answer", json=body, headers=ADA)).status_code == 202
        await shop.result(run_id, PATIENCE)
        if is_old:
            monkeypatch.setattr(shop, "status", _as_plain_json(shop))
        shown = await client.get(f"/runs/{run_id}", headers=ADA)
        stream = await client.get(f"/runs/{run_id}/events", headers=ADA)
        entries = [json.loads(data) for name, _, data in events_in(stream.text) if name == "entry"]
    assert [entry["result"] for entry in entries] == [
        {"number": 1, "receipt": "***"},
        {"number": 3, "receipt": "***"},
        {"pay": {"number": 2, "receipt": "***"}},
    ]
    assert shown.json()["input"]["token"] == "***"
    assert "hidden" not in stream.text + shown.text


def _as_plain_json(shop: Durable) -> Any:
    """The status of a run as it is where its values do not decode: what is stored, as JSON."""
    status = shop.status

    async def asked(run_id: str) -> Any:
        run, entries = await status(run_id), await shop.journal(run_id)
        return replace(run, input=GIVEN, results={entry.node: entry.result for entry in entries})

    return asked


def test_the_default_of_a_secret_is_in_no_schema() -> None:
    class Card(BaseModel):
        number: Secret[str] = Secret("hidden-of-a-model")

    class Nested(msgspec.Struct):
        paid: Paid
        cards: list[Card] = []
        card: Card = Card(number=Secret("hidden-of-a-field"))
        count: int = 3

    shop = Durable("sqlite://", [durable("order", input=Nested).step("a", lambda ctx: None)])
    schemas = shop.schemas("order")
    assert "hidden" not in str(schemas)
    assert "no receipt yet" not in str(schemas)
    parts = schemas["input"]["$defs"]
    assert parts["Paid"]["properties"]["receipt"]["writeOnly"] is True
    assert parts["Nested"]["properties"]["count"] == {"type": "integer", "default": 3}
    assert parts["Nested"]["required"] == ["paid"]
    assert parts["Paid"]["required"] == ["number"]
    app = FastAPI()
    app.include_router(router(shop, auth=by_header), prefix="/runs")
    assert "hidden" not in str(app.openapi())


def test_the_inputs_of_workflows_are_in_the_openapi_document() -> None:
    flows: list[Workflow[Any]] = [
        durable("order", input=Order),
        durable("pay", input=Payment),
        durable("any"),
        durable("none", input=None),
    ]
    shop = Durable("sqlite://", [flow.step("a", lambda ctx: None) for flow in flows])
    app = FastAPI()
    app.include_router(router(shop, auth=by_header), prefix="/runs")
    document = app.openapi()

    schemas = document["components"]["schemas"]
    assert references_in(document) <= {f"#/components/schemas/{name}" for name in schemas}

    def body_of(name: str) -> Any:
        schema = document["paths"][f"/runs/{name}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        return schemas[schema["$ref"].rpartition("/")[2]]

    assert set(body_of("order")["properties"]) == {"id", "due", "lines", "token"}
    assert set(body_of("pay")["properties"]) == {"card", "amount"}
    line = next(one for name, one in schemas.items() if name.startswith("Line"))
    assert line["properties"]["parts"]["items"]["$ref"].startswith("#/components/schemas/Line")
    assert body_of("none") == {"type": "null"}
    assert body_of("any") == {}


class Approval(msgspec.Struct):
    approved: bool
    lines: list[Line] = []


def test_results_and_payloads_of_workflows_are_in_the_openapi_document() -> None:
    def priced(ctx: Context) -> Line:
        raise NotImplementedError

    def paid(ctx: Context) -> Payment:
        raise NotImplementedError

    def free(ctx: Context) -> Any:
        raise NotImplementedError

    flows: list[Workflow[Any]] = [
        durable("order").step("price", priced).wait_for_signal("approval", "approval", payload=Approval),
        durable("pay").step("pay", paid).wait_for_signal("approval", "approval", payload=bool),
        durable("any").step("free", free).wait_for_signal("any", "any"),
    ]
    app = FastAPI()
    app.include_router(router(Durable("sqlite://", flows), auth=by_header), prefix="/runs")
    document = app.openapi()
    schemas = document["components"]["schemas"]
    assert references_in(document) <= {f"#/components/schemas/{name}" for name in schemas}

    paths = document["paths"]
    assert {path for path in paths if "signals" in path} == {
        "/runs/{run_id}/signals/approval",
        "/runs/{run_id}/signals/{name}",
    }
    body = paths["/runs/{run_id}/signals/approval"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    choices = schemas[body["$ref"].rpartition("/")[2]]["anyOf"]
    assert {"type": "boolean"} in choices
    (approval,) = (schemas[one["$ref"].rpartition("/")[2]] for one in choices if "$ref" in one)
    assert set(approval["properties"]) == {"approved", "lines"}
    generic = paths["/runs/{run_id}/signals/{name}"]["post"]
    assert {one["name"] for one in generic["parameters"] if one["in"] == "path"} == {"run_id", "name"}

    shown = paths["/runs/{run_id}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    results = schemas[shown["$ref"].rpartition("/")[2]]["properties"]["results"]["anyOf"]
    found = [set(one.get("properties", {})) for one in results]
    assert found == [{"price", "approval"}, {"pay", "approval"}, set()]


async def test_a_declared_payload_is_read_by_its_type_from_a_request_and_from_a_link() -> None:
    seen: list[Any] = []
    flow = (
        durable("order")
        .wait_for_signal("first", "first", payload=Approval)
        .wait_for_signal("second", "second", payload=Approval)
    )

    @flow.step("see")
    async def see(ctx: Context) -> None:
        seen.extend(ctx.results[name] for name in ("first", "second"))

    shop = shop_of("sqlite://", flow)
    async with served(shop) as client:
        run_id = (await shop.start("order")).run_id
        given = {"approved": True, "lines": [{"sku": "kettle", "price": "19.90"}]}
        assert (await client.post(f"/runs/{run_id}/signals/first", json=given, headers=ADA)).status_code == 202
        link = shop.signal_url(
            "/runs", run_id, "second", data=Approval(approved=False, lines=[Line("lid", Decimal(3))])
        )
        shown = await client.get(link)
        assert "&quot;approved&quot;: false" in shown.text
        assert (await client.post(link)).status_code == 200
        await shop.result(run_id, PATIENCE)
    assert seen == [
        Approval(approved=True, lines=[Line("kettle", Decimal("19.90"))]),
        Approval(approved=False, lines=[Line("lid", Decimal(3))]),
    ]
    with pytest.raises(PayloadError, match=r"^data"):
        shop.signal_url("/runs", run_id, "third", data=Approval(approved=True))
