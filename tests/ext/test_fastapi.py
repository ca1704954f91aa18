"""The router for FastAPI: who may call it, what it answers, and that each caller's keys are its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI, HTTPException

from stepwell import (
    Abort,
    Context,
    DefinitionError,
    Durable,
    DurableError,
    RunCanceledError,
    StoreUnavailableError,
    Workflow,
    durable,
)
from stepwell.ext.fastapi import Identity, Runs, lifespan, router
from tests.api.running_fixtures import until_status
from tests.ext.serving import ADA, BOB, by_header, entered, order, served, shop_of
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from httpx import AsyncClient, Response

    from stepwell import RunSnapshot


async def start(client: AsyncClient, **headers: str) -> str:
    """A new run's id."""
    response = await client.post("/runs/order", json={"id": 1}, headers={**ADA, **headers})
    assert response.status_code == 202
    run_id: str = response.json()["run_id"]
    return run_id


def code_of(response: Response) -> str:
    """The code of a refusal."""
    code: str = response.json()["detail"]["code"]
    return code


def test_a_router_without_auth_is_not_built() -> None:
    with pytest.raises(DefinitionError, match="router needs auth"):
        router(shop_of())


async def test_a_run_is_started_shown_signaled_and_ended() -> None:
    shop = shop_of()
    async with served(shop) as client:
        started = await client.post("/runs/order", json={"id": 1, "price": 2.5}, headers=ADA)
        assert started.status_code == 202
        assert started.json() == {"run_id": started.headers["location"], "status": "pending", "created": True}
        run_id = started.json()["run_id"]
        answered = await client.post(f"/runs/{run_id}/signals/approval", json={"by": "ada"}, headers=ADA)
        assert answered.status_code == 202
        assert answered.json()["accepted"] is True
        await shop.result(run_id, PATIENCE)
        shown = (await client.get(f"/runs/{run_id}", headers=ADA)).json()
        assert (shown["status"], shown["input"]) == ("completed", {"id": 1, "price": 2.5})
        assert shown["results"] == {"price": {"id": 1, "price": 2.5}, "approval": {"by": "ada"}, "ship": {"by": "ada"}}
        late = await client.post(f"/runs/{run_id}/signals/approval", json={}, headers=ADA)
        assert (late.status_code, late.json()) == (409, {"accepted": False, "status": "completed", "expected": True})


async def test_a_run_is_canceled_and_stays_so() -> None:
    async with served(shop_of()) as client:
        run_id = await start(client)
        for _ in range(2):
            assert (await client.delete(f"/runs/{run_id}", headers=ADA)).status_code == 204
        assert (await client.get(f"/runs/{run_id}", headers=ADA)).json()["status"] == "canceled"


async def test_a_run_is_undone_before_it_is_canceled() -> None:
    undone: list[str] = []

    async def release(ctx: Context) -> None:
        undone.append(ctx.run_id)

    flow = durable("order").step("reserve", lambda ctx: 1, compensate=release).wait_for_signal("wait", "approval")
    shop = shop_of("sqlite://", flow)
    async with served(shop) as client:
        run_id = await start(client)
        await until_status(shop, run_id, "suspended")
        assert (await client.delete(f"/runs/{run_id}?compensate=true", headers=ADA)).status_code == 202
        with pytest.raises(RunCanceledError):
            await shop.result(run_id, PATIENCE)
        assert undone == [run_id]
        assert (await client.delete(f"/runs/{run_id}?compensate=perhaps", headers=ADA)).status_code == 422


async def test_the_same_key_is_one_run_and_another_input_is_refused() -> None:
    async with served(shop_of(), worker=False) as client:
        headers = {**ADA, "Idempotency-Key": "one"}
        first = await client.post("/runs/order", json={"a": 1, "b": 2}, headers=headers)
        again = await client.post("/runs/order", json={"b": 2, "a": 1.0}, headers=headers)
        other = await client.post("/runs/order", json={"a": 2, "b": 2}, headers=headers)
        assert [first.status_code, again.status_code, other.status_code] == [202, 200, 422]
        assert again.json() == {**first.json(), "created": False}
        assert code_of(other) == "key_reused"


async def test_keys_of_different_identities_never_meet() -> None:
    names = ["ada", "bob", "a", "a/b", "a%2Fb", "a%252Fb", "url", "%75rl", "undo", "event", "ada/x"]
    async with served(shop_of(), worker=False, auth=lambda request: Identity(request.headers["x-user"])) as client:
        runs = set()
        for name in names:
            for key in ("k", "b/k", "x/k"):
                headers = {"x-user": name, "Idempotency-Key": key}
                started = await client.post("/runs/order", json=[name, key], headers=headers)
                assert started.status_code == 202, (name, key)
                runs.add(started.json()["run_id"])
        assert len(runs) == 3 * len(names)


async def test_the_key_is_the_identity_and_the_header() -> None:
    shop = shop_of()
    async with served(shop, worker=False) as client:
        run_id = await start(client, **{"Idempotency-Key": "one"})
        assert (await shop.status(run_id)).key == "ada/one"


async def test_a_signal_with_a_key_is_delivered_once_for_each_caller() -> None:
    shop = shop_of()
    async with served(shop, worker=False) as client:
        run_id = await start(client)
        for headers in (ADA, ADA, BOB, ADA):
            answer = await client.post(
                f"/runs/{run_id}/signals/approval", json=1, headers={**headers, "Idempotency-Key": "k"}
            )
            assert (answer.status_code, answer.json()["accepted"]) == (202, True)
        assert (await shop.status(run_id)).unread_signals == {"approval": 2}


async def test_a_caller_named_like_the_keys_of_links_cannot_take_their_answers() -> None:
    shop = shop_of()
    async with served(shop, worker=False) as client:
        run_id = await start(client)
        headers = {"x-user": "url", "Idempotency-Key": "approval"}
        assert (await client.post(f"/runs/{run_id}/signals/approval", json=1, headers=headers)).status_code == 202
        link = shop.signal_url("/runs", run_id, "approval", data=2)
        assert (await client.post(link)).status_code == 200
        assert (await shop.status(run_id)).unread_signals == {"approval": 2}


@pytest.mark.parametrize("key", ["", "k" * 256, "caf\u00e9", "a\tb"])
async def test_a_key_that_is_none_is_refused(key: str) -> None:
    async with served(shop_of(), worker=False) as client:
        headers = [(b"x-user", b"ada"), (b"idempotency-key", key.encode())]
        response = await client.post("/runs/order", json=1, headers=headers)
        assert (response.status_code, code_of(response)) == (422, "key_refused")


async def test_two_keys_are_refused() -> None:
    async with served(shop_of(), worker=False) as client:
        headers = [("x-user", "ada"), ("idempotency-key", "a"), ("idempotency-key", "b")]
        assert code_of(await client.post("/runs/order", json=1, headers=headers)) == "key_refused"


async def test_no_route_but_that_of_links_answers_without_an_identity() -> None:
    shop = shop_of()
    async with served(shop, worker=False) as client:
        run_id = await start(client)
        for method, path in (
            ("POST", "/runs/order"),
            ("GET", f"/runs/{run_id}"),
            ("GET", f"/runs/{run_id}/events"),
            ("POST", f"/runs/{run_id}/signals/approval"),
            ("DELETE", f"/runs/{run_id}"),
            ("GET", "/runs/unknown"),
            ("POST", "/runs/unknown"),
        ):
            assert (await client.request(method, path)).status_code == 401, (method, path)
        assert (await shop.status(run_id)).status == "pending"
        assert len(await shop.list()) == 1


async def test_a_body_is_not_read_before_its_sender_is_known() -> None:
    read: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        for number in range(3):
            read.append(number)
            yield b" " * 1000

    async with served(shop_of(), worker=False) as client:
        headers = {"content-type": "application/json"}
        assert (await client.post("/runs/order", content=body(), headers=headers)).status_code == 401
        assert read == []


async def test_an_error_of_auth_is_the_response() -> None:
    async def refuse(request: object) -> Identity:
        raise HTTPException(418, "no")

    async with served(shop_of(), worker=False, auth=refuse) as client:
        response = await client.post("/runs/order", json=1)
        assert (response.status_code, response.json()) == (418, {"detail": "no"})


@pytest.mark.parametrize("action", ["start", "read", "signal", "cancel"])
@pytest.mark.parametrize("is_async", [False, True])
async def test_what_a_caller_may_not_do_is_refused_and_does_nothing(action: str, *, is_async: bool) -> None:
    asked: list[tuple[str, str, Any]] = []

    def may(identity: Identity, wanted: str, thing: RunSnapshot | Workflow) -> bool:
        asked.append((identity.name, wanted, thing))
        return wanted != action

    async def may_async(identity: Identity, wanted: str, thing: RunSnapshot | Workflow) -> bool:
        return may(identity, wanted, thing)

    shop = shop_of()
    async with served(shop, worker=False, may=may_async if is_async else may) as client:
        run_id = (await shop.start("order")).run_id
        found = {
            "start": await client.post("/runs/order", json=1, headers=ADA),
            "read": await client.get(f"/runs/{run_id}", headers=ADA),
            "signal": await client.post(f"/runs/{run_id}/signals/approval", json=1, headers=ADA),
            "cancel": await client.delete(f"/runs/{run_id}", headers=ADA),
        }
        if action == "read":
            assert (await client.get(f"/runs/{run_id}/events", headers=ADA)).status_code == 403
        assert [name for name, response in found.items() if response.status_code == 403] == [action]
        assert code_of(found[action]) == "forbidden"
        assert {(name, wanted) for name, wanted, _ in asked} == {("ada", wanted) for wanted in found}
        things = {wanted: thing for _, wanted, thing in asked}
        assert (things["start"].name, things["read"].run_id) == ("order", run_id)
        run = await shop.status(run_id)
        assert (run.status == "canceled", run.unread_signals == {}) == (action != "cancel", action == "signal")
        assert len(await shop.list()) == (1 if action == "start" else 2)


@pytest.mark.parametrize("body", ["{", "", "[1,]", "NaN", '{"a":1e999}', "[" * 100_000, '"\\ud800"', "\x00"])
async def test_what_is_no_json_starts_nothing(body: str) -> None:
    shop = shop_of()
    async with served(shop, worker=False) as client:
        headers = {**ADA, "content-type": "application/json"}
        response = await client.post("/runs/order", content=body or "\xff".encode("latin-1"), headers=headers)
        assert (response.status_code, code_of(response)) == (422, "payload")
        assert await shop.list() == []


async def test_a_body_above_the_limit_is_refused_with_and_without_its_length() -> None:
    read: list[int] = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            read.append(1)
            yield b" " * 1000

    shop = shop_of()
    async with served(shop, worker=False, max_body_bytes=10_000) as client:
        headers = {**ADA, "content-type": "application/json"}
        told = await client.post("/runs/order", content=b"1" + b" " * 10_000, headers=headers)
        assert (told.status_code, code_of(told)) == (413, "too_large")
        untold = await client.post("/runs/order", content=endless(), headers=headers)
        assert (untold.status_code, len(read)) == (413, 11)
        for length in ("-1", "1e3", "x", "9" * 5000):
            wrong = await client.post("/runs/order", content=b"1", headers={**headers, "content-length": length})
            assert wrong.status_code == 413, length
        assert (await client.post("/runs/order", content=b"1" + b" " * 9_999, headers=headers)).status_code == 202
        assert len(await shop.list()) == 1


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"]
)
async def test_what_a_page_of_another_site_could_send_by_itself_is_refused(kind: str | None) -> None:
    shop = shop_of()
    async with served(shop, worker=False) as client:
        run_id = await start(client)
        headers = ADA if kind is None else {**ADA, "content-type": kind}
        for path in ("/runs/order", f"/runs/{run_id}/signals/approval"):
            response = await client.post(path, content=b"{}", headers=headers)
            assert (response.status_code, code_of(response)) == (415, "unsupported_type")
        empty = await client.post(
            f"/runs/{run_id}/signals/approval", headers={**headers, "sec-fetch-site": "cross-site"}
        )
        assert empty.status_code == 415
        assert (await client.post(f"/runs/{run_id}/signals/approval", headers=ADA)).status_code == 202
        assert (await shop.status(run_id)).unread_signals == {"approval": 1}


async def test_a_name_or_an_id_that_is_none_is_refused() -> None:
    async with served(shop_of(), worker=False) as client:
        run_id = await start(client)
        for method, path, status in (
            ("POST", "/runs/unknown", 404),
            ("POST", "/runs/..%2Forder", 404),
            ("GET", "/runs/unknown", 404),
            ("GET", "/runs/%00", 404),
            ("GET", f"/runs/{run_id}%2Fevents%2Fx", 404),
            ("GET", "/runs/unknown/events", 404),
            ("DELETE", "/runs/unknown", 404),
            ("POST", f"/runs/{run_id}/signals/no%20name", 422),
            ("POST", f"/runs/{run_id}/signals/{'n' * 101}", 422),
            ("POST", "/runs/unknown/signals/approval", 404),
            ("PUT", f"/runs/{run_id}", 405),
        ):
            options: dict[str, Any] = {"json": 1} if method == "POST" else {}
            assert (await client.request(method, path, headers=ADA, **options)).status_code == status, (method, path)


async def test_what_the_server_is_to_blame_for_is_logged_and_not_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shop = shop_of()
    async with served(shop, worker=False) as client:
        run_id = await start(client)

        async def fail(*_: object, **__: object) -> None:
            raise StoreUnavailableError("postgresql://db.internal/shop", "connection refused")

        for name in ("status", "start", "read_link"):
            monkeypatch.setattr(shop, name, fail)
        for response in (
            await client.get(f"/runs/{run_id}", headers=ADA),
            await client.post("/runs/order", json=1, headers=ADA),
        ):
            assert (response.status_code, code_of(response)) == (503, "store_unavailable")
            assert "internal" not in response.text
        page = await client.get("/runs/answer/token")
        assert (page.status_code, page.headers["retry-after"]) == (503, "60")
        assert "Open this link again" in page.text
        assert "internal" not in page.text
        assert caplog.text.count("The store postgresql://db.internal/shop is not available") >= 3


async def test_a_failed_run_is_shown_without_the_code_of_the_server() -> None:
    async def refuse(ctx: Context) -> None:
        raise Abort("too heavy")

    shop = shop_of("sqlite://", durable("order").step("weigh", refuse))
    async with served(shop) as client:
        run_id = await start(client)
        with pytest.raises(DurableError):
            await shop.result(run_id, PATIENCE)
        shown = await client.get(f"/runs/{run_id}", headers=ADA)
        assert shown.json()["error"] == {"node": "weigh", "type": "Abort", "message": "too heavy"}
        assert "raise Abort" not in shown.text


async def test_the_dependency_gives_the_app_and_maps_errors() -> None:
    shop = shop_of()
    app = FastAPI(lifespan=lifespan(shop, worker=False))

    @app.get("/orders/{run_id}")
    async def show(run_id: str, given: Runs) -> str:
        assert given is shop
        return str((await given.status(run_id)).status)

    async with entered(app) as client:
        run_id = (await shop.start("order")).run_id
        assert (await client.get(f"/orders/{run_id}")).json() == "pending"
        missing = await client.get("/orders/unknown")
        assert (missing.status_code, code_of(missing)) == (404, "run_not_found")


async def test_the_dependency_without_a_lifespan_says_what_to_do() -> None:
    app = FastAPI()

    @app.get("/")
    async def show(given: Runs) -> None: ...

    async with entered(app) as client:
        with pytest.raises(DurableError, match="lifespan"):
            await client.get("/")


async def test_a_lifespan_without_a_worker_leaves_runs_to_others() -> None:
    shop = shop_of()
    async with served(shop, worker=False) as client:
        run_id = await start(client)
        assert (await client.get(f"/runs/{run_id}", headers=ADA)).json()["waits_for"] == "worker"


async def test_workflows_that_are_registered_later_have_a_route() -> None:
    shop = shop_of()
    async with served(shop, worker=False) as client:
        shop.register(durable("refund").step("pay", lambda ctx: None))
        assert (await client.post("/runs/refund", json=1, headers=ADA)).status_code == 202


async def test_dependencies_of_the_app_are_asked_too() -> None:
    from fastapi import Depends  # noqa: PLC0415  of this test alone

    async def closed() -> None:
        raise HTTPException(429, "later")

    shop = shop_of()
    app = FastAPI(lifespan=lifespan(shop, worker=False), dependencies=[Depends(closed)])
    app.include_router(router(shop, auth=by_header), prefix="/runs")
    async with entered(app) as client:
        assert (await client.post("/runs/order", json=1, headers=ADA)).status_code == 429
        assert await shop.list() == []


async def test_links_are_answered_without_an_identity() -> None:
    shop = shop_of()
    async with served(shop, worker=False) as client:
        run_id = await start(client)
        yes = shop.signal_url("http://shop.example/runs", run_id, "approval", data={"approved": True})
        no = shop.signal_url("/runs", run_id, "approval", data={"approved": False})
        for _ in range(2):
            shown = await client.get(yes)
            assert (shown.status_code, shown.headers["content-type"]) == (200, "text/html; charset=utf-8")
            assert "default-src 'none'" in shown.headers["content-security-policy"]
            assert "<button" in shown.text
        head = await client.head(yes)
        assert (head.status_code, head.text) == (200, "")
        assert (await shop.status(run_id)).unread_signals == {}
        assert (await client.post(yes)).status_code == 200
        late = await client.post(no)
        assert late.status_code == 409
        assert "by another link" in late.text
        assert (await client.get("/runs/answer/" + "a" * 5000)).status_code == 410
        assert (await client.get("/runs/answer/events", headers=ADA)).status_code == 410
        await shop.cancel(run_id)
        assert (await client.post(no)).status_code == 410


def references_in(part: Any) -> set[str]:
    """Every `$ref` of a document."""
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*map(references_in, part.values()))
    return set().union(*map(references_in, part)) if isinstance(part, list) else set()


def test_the_router_is_in_the_openapi_document_of_the_app() -> None:
    shop = Durable("sqlite://", [order(), durable("refund").step("pay", lambda ctx: None)])
    app = FastAPI()
    app.include_router(router(shop, auth=by_header), prefix="/runs")
    document = json.loads(json.dumps(app.openapi()))

    assert {path: sorted(methods) for path, methods in document["paths"].items()} == {
        "/runs/answer/{token}": ["get", "post"],
        "/runs/order": ["post"],
        "/runs/refund": ["post"],
        "/runs/{run_id}": ["delete", "get"],
        "/runs/{run_id}/events": ["get"],
        "/runs/{run_id}/signals/{name}": ["post"],
    }
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references_in(document) <= known
    start_responses = document["paths"]["/runs/order"]["post"]["responses"]
    assert set(start_responses) == {"200", "202", "401", "403", "413", "415", "422", "503"}
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["responses"]
