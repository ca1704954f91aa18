"""Runs behind FastAPI: a lifespan, a dependency, and a router with the app's workflows in its OpenAPI document.

Rule 1: a request is authenticated before its body is read, and a body is read up to a limit. Rule 2: what changes
something is asked for with JSON, so that no form or link on another site can do it with a browser's cookies. Rule 3:
the keys of a caller are its own: `<identity>/<header>`.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

from stepwell.ext import missing

try:
    from fastapi import APIRouter, Body, Depends, FastAPI, Header, HTTPException, Path, Query, Request, Response
    from fastapi.routing import APIRoute
    from starlette.requests import HTTPConnection  # noqa: TC002  FastAPI reads the annotation
    from starlette.responses import HTMLResponse

    from stepwell.ext.fastapi_routes import (
        Access,
        Auth,
        EventStream,
        guarded_route,
        json_response,
        log_if_internal,
    )
    from stepwell.ext.openapi import DELIVERED, STARTED, annotation_for, any_of, described, refusals, run_with
except ModuleNotFoundError as _error:
    raise missing("fastapi", _error) from None

from stepwell.app import Durable
from stepwell.errors import DefinitionError, DurableError
from stepwell.ext.http_access import Identity, May, detail_of, run_as_json
from stepwell.ext.run_events import RunEvents, TooManyReadersError, seq_of
from stepwell.ext.webhooks import answer_page, unavailable_page
from stepwell.reading.secrets import hidden_in_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from stepwell.workflow.durations import Duration

__all__ = ["Identity", "Runs", "lifespan", "router", "runs"]

MOST_BODY_BYTES = 4 * 2**20
_Key = Annotated[str | None, Header(description="Repeating the request with the same key does nothing twice.")]
_LastEvent = Annotated[str | None, Header(description="The number of the last journal entry that was received.")]
_Compensate = Annotated[bool, Query(description="Undo what the run has done; it is canceled when that has ended.")]
_RunId = Annotated[str, Path(description="The id of a run.")]
_Responses: TypeAlias = dict[int | str, dict[str, Any]]
_PAGES: _Responses = {
    409: {"description": "Another answer came first, or the key of the link is taken"},
    410: {"description": "The run has ended, or the link has expired or is not valid"},
    422: {"description": "The run does not accept the answer"},
    503: {"description": "The store is not available"},
}
_NOT_THE_SAME = {
    "code": "key_reused",
    "message": "This Idempotency-Key was used with another input; nothing was started.",
}
_TOO_MANY = {"code": "too_many_streams", "message": "Too many event streams are open; try again later."}


def lifespan(
    shop: Durable,
    worker: bool = True,  # noqa: FBT001, FBT002  as the contract names it
    *,
    concurrency: int = 100,
    threads: int = 32,
    grace: Duration = timedelta(seconds=10),
    queues: Sequence[str] | None = None,
) -> Callable[[FastAPI], AbstractAsyncContextManager[dict[str, Any]]]:
    """Returns a lifespan for FastAPI or Starlette: enters the app while the server runs, with a worker in its process.

    - `worker`: False for a server that only starts and reads runs.
    - `concurrency`, `threads`, `grace`, `queues`: as for `Durable.worker`.
    """

    @asynccontextmanager
    async def entered(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with shop:
            options = {"concurrency": concurrency, "threads": threads, "grace": grace, "queues": queues}
            async with shop.worker(**cast("Any", options)) if worker else nullcontext():
                app.state.stepwell = shop
                yield {"stepwell": shop}

    return entered


async def runs(connection: HTTPConnection) -> AsyncIterator[Durable]:
    """A dependency that gives the `Durable` of the lifespan; errors of stepwell become responses with their status."""
    shop = getattr(connection.state, "stepwell", None) or getattr(connection.app.state, "stepwell", None)
    if shop is None:
        raise DurableError("There is no Durable here: give the app FastAPI(lifespan=lifespan(shop)).")
    try:
        yield shop
    except DurableError as error:
        raise HTTPException(log_if_internal(error), detail_of(error)) from error


Runs = Annotated[Durable, Depends(runs)]
"""The type of a parameter that gets the app: `async def order(shop: Runs)`."""


def router(
    shop: Durable, *, auth: Auth | None = None, may: May | None = None, max_body_bytes: int = MOST_BODY_BYTES
) -> APIRouter:
    """Returns a router to start, watch, signal and cancel the runs of an app, and the pages of its answer links.

    - `auth`: `auth(request)` returns the `Identity` of the caller, or None, or raises an HTTPException. Plain or async.
    - `may`: `may(identity, action, run_or_workflow)` says whether the caller may `start` a workflow, or `read`,
      `signal` or `cancel` a run. Plain or async. Without it every identity may do everything.
    - `max_body_bytes`: a longer body is refused with 413.

    Raises DefinitionError without `auth`.
    """
    if auth is None:
        raise DefinitionError("router needs auth=…, a function that takes the request and returns an Identity or None.")
    access = Access(auth, may, max_body_bytes)
    made = APIRouter(route_class=guarded_route(access), tags=["runs"])
    _add_answers(made, shop)
    _add_starts(made, shop, access)
    _add_runs(made, shop, access)
    _add_signals(made, shop, access)
    return made


def _add_starts(made: APIRouter, shop: Durable, access: Access) -> None:
    """`POST /{workflow}`: a route for each workflow that is registered now, and one for those that come later."""

    def starting(name: str | None) -> Callable[..., Any]:
        async def start(request: Request, input: Any = None, idempotency_key: _Key = None) -> Response:
            workflow = shop.workflow(request.path_params["workflow"] if name is None else name)
            admitted = await access.allow(request, "start", workflow)
            started = await shop.start(workflow.name, admitted.value("input"), key=admitted.key(request))
            if started.same_input is False:
                raise HTTPException(422, _NOT_THE_SAME)
            told = {"run_id": started.run_id, "status": started.status, "created": started.created}
            return json_response(told, 202 if started.created else 200, Location=started.run_id)

        declared = None if name is None else shop.schemas(name).get("input")
        start.__annotations__["input"] = _body(f"{name} input", declared)
        return start

    answers: _Responses = {
        202: described("Started", STARTED, "A new run"),
        200: described("Started", STARTED, "The known run"),
    }
    for name in shop.workflows:
        made.add_api_route(
            f"/{name}",
            starting(name),
            methods=["POST"],
            name=f"start {name}",
            status_code=202,
            responses={**answers, **refusals(401, 403, 413, 415, 422, 503)},
        )
    made.add_api_route("/{workflow}", starting(None), methods=["POST"], name="start", include_in_schema=False)


def _add_runs(made: APIRouter, shop: Durable, access: Access) -> None:
    """What can be done with a run."""
    events = RunEvents(shop)

    async def show(request: Request, run_id: _RunId) -> Response:
        run = await shop.status(run_id)
        await access.allow(request, "read", run)
        return json_response(run_as_json(hidden_in_run(run, shop)))

    async def watch(request: Request, run_id: _RunId, last_event_id: _LastEvent = None) -> Response:
        run = await shop.status(run_id)
        await access.allow(request, "read", run)
        try:
            return EventStream(events.follow(run, seq_of(last_event_id)))
        except ValueError as error:
            raise HTTPException(422, {"code": "last_event_id_refused", "message": str(error)}) from None
        except TooManyReadersError:
            raise HTTPException(503, _TOO_MANY, {"Retry-After": "10"}) from None

    async def cancel(request: Request, run_id: _RunId, compensate: _Compensate = False) -> Response:  # noqa: FBT002  a query parameter
        await access.allow(request, "cancel", await shop.status(run_id))
        await shop.cancel(run_id, compensate=compensate)
        return Response(status_code=202 if compensate else 204)

    results = {name: found["results"] for name in shop.workflows if "results" in (found := shop.schemas(name))}
    common = refusals(401, 403, 404, 422, 503)
    shown: _Responses = {200: described("Run", run_with(results), "The run as it is now")}
    made.add_api_route("/{run_id}", show, methods=["GET"], name="read run", responses={**shown, **common})
    stream: _Responses = {
        200: {"description": "Server-sent events", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
    }
    made.add_api_route("/{run_id}/events", watch, methods=["GET"], name="watch run", responses={**stream, **common})
    made.add_api_route(
        "/{run_id}",
        cancel,
        methods=["DELETE"],
        name="cancel run",
        status_code=204,
        responses={202: {"description": "It will be undone, then canceled"}, **common},
    )


def _add_signals(made: APIRouter, shop: Durable, access: Access) -> None:
    """`POST /{run_id}/signals/{name}`: a route for each signal with a declared payload, and one for the others."""

    async def deliver(request: Request, run_id: str, name: str) -> Response:
        admitted = await access.allow(request, "signal", await shop.status(run_id))
        answer = await shop.signal(run_id, name, admitted.value("data"), key=admitted.key(request))
        told = {"accepted": answer.accepted, "status": answer.status, "expected": answer.expected}
        return json_response(told, 202 if answer.accepted else 409)

    def delivering(name: str) -> Callable[..., Any]:
        async def signal(request: Request, run_id: _RunId, data: Any = None, idempotency_key: _Key = None) -> Response:
            return await deliver(request, run_id, name)

        return signal

    async def signal(
        request: Request, run_id: _RunId, name: str, data: Any = None, idempotency_key: _Key = None
    ) -> Response:
        return await deliver(request, run_id, name)

    payloads: dict[str, dict[str, Any]] = {}
    for workflow in shop.workflows:
        for name, schema in shop.schemas(workflow).get("payloads", {}).items():
            payloads.setdefault(name, {})[workflow] = schema
    taken: _Responses = {
        202: described("Delivered", DELIVERED, "Accepted"),
        409: described("Delivered", DELIVERED, "It has ended"),
        **refusals(401, 403, 404, 413, 415, 422, 503),
    }
    routes = {name: (delivering(name), any_of(f"{name} data", found)) for name, found in payloads.items()}
    for name, (route, schema) in {**routes, "{name}": (signal, None)}.items():
        route.__annotations__["data"] = _body(f"{name} data", schema)
        made.add_api_route(
            f"/{{run_id}}/signals/{name}",
            route,
            methods=["POST"],
            name=f"signal {name.strip('{}')}",
            status_code=202,
            responses=taken,
        )


def _body(name: str, schema: dict[str, Any] | None) -> Any:
    """The annotation of a body that is described by a schema; without one any JSON."""
    return Annotated[annotation_for("Value", {}) if schema is None else annotation_for(name, schema), Body()]


def _add_answers(made: APIRouter, shop: Durable) -> None:
    """`/answer/{token}`: the pages of answer links, for those who have one and no identity."""

    async def answer(request: Request, token: str) -> Response:
        try:
            page = await answer_page(shop, token, submitted=request.method == "POST")
        except DurableError as error:
            log_if_internal(error)
            page = unavailable_page()
        return Response(page.body, page.status, dict(page.headers))

    for method in ("GET", "POST", "HEAD"):
        made.add_api_route(
            "/answer/{token}",
            answer,
            methods=[method],
            name=f"{method.lower()} answer",
            include_in_schema=method != "HEAD",
            response_class=HTMLResponse,
            route_class_override=APIRoute,
            responses=dict(_PAGES),
        )
