"""Routes that ask who calls before they read what was sent, and the responses that they give."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from inspect import isawaitable, iscoroutinefunction
from logging import getLogger
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec
from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from stepwell.errors import DurableError, PayloadError
from stepwell.ext.http_access import INTERNAL, Identity, KeyRefusedError, May, detail_of, encoded, key_for, status_for
from stepwell.workflow.declared import FromJson

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from starlette.types import Message, Receive, Scope, Send

    from stepwell.reading.records import RunSnapshot
    from stepwell.workflow.builder import Workflow

_log = getLogger("stepwell.ext.fastapi")
_ADMITTED = "stepwell.admitted"
_FROM_ELSEWHERE = frozenset({"cross-site", "same-site"})
Auth: TypeAlias = Callable[[Request], "Identity | Awaitable[Identity | None] | None"]
"""`auth(request)`: the identity of the caller, or None; it may raise an HTTPException of its own."""


class Admitted(NamedTuple):
    """A request whose caller is known, with its body, which is JSON if it is not empty."""

    identity: Identity
    body: bytes

    def value(self, place: str) -> FromJson:
        """The body, to be read as what is declared; an empty one is null. Raises PayloadError."""
        try:
            return FromJson(msgspec.json.decode(self.body or b"null"))
        except (ValueError, RecursionError) as error:
            raise PayloadError(place, f"it is not JSON: {error}") from None

    def key(self, request: Request) -> str | None:
        """The key of the request's Idempotency-Key."""
        given = request.headers.getlist("idempotency-key")
        if len(given) > 1:
            raise HTTPException(422, {"code": "key_refused", "message": "There must be one Idempotency-Key."})
        try:
            return key_for(self.identity, given[0] if given else None)
        except KeyRefusedError as error:
            raise HTTPException(422, {"code": "key_refused", "message": str(error)}) from None


class Access:
    """Who may call the routes, with how much, and for what."""

    def __init__(self, auth: Auth, may: May | None, most_bytes: int) -> None:
        self._auth = auth
        self._may = may
        self._most_bytes = most_bytes

    async def admit(self, request: Request) -> None:
        """Finds out who calls, then reads the body; raises HTTPException."""
        identity = await _called(self._auth, request)
        if identity is None:
            raise HTTPException(401, {"code": "unauthenticated", "message": "This needs an identity."})
        if not isinstance(identity, Identity) or not identity.name:
            raise TypeError(f"auth must return an Identity with a name, or None, got {type(identity).__name__}.")
        body = await self._body(request) if request.method == "POST" else b""
        request.scope[_ADMITTED] = Admitted(identity, body)

    async def allow(self, request: Request, action: str, thing: RunSnapshot | Workflow[Any]) -> Admitted:
        """The admitted request, if its caller may do that; raises HTTPException."""
        admitted: Admitted = request.scope[_ADMITTED]
        if self._may is not None and not await _called(self._may, admitted.identity, action, thing):
            raise HTTPException(
                403, {"code": "forbidden", "message": f"{admitted.identity.name} may not {action} this."}
            )
        return admitted

    async def _body(self, request: Request) -> bytes:
        length = request.headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or int(length[:20]) > self._most_bytes:
            raise self._too_large()
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > self._most_bytes:
                    raise self._too_large()
        except ClientDisconnect:
            raise HTTPException(400, {"code": "incomplete", "message": "The body ended too early."}) from None
        # A page of another site can send a form or plain text with this site's cookies, but no JSON.
        needs_json = body or request.headers.get("sec-fetch-site") in _FROM_ELSEWHERE
        if needs_json and not _is_json(request.headers.get("content-type", "")):
            raise HTTPException(415, {"code": "unsupported_type", "message": "The body must be application/json."})
        return bytes(body)

    def _too_large(self) -> HTTPException:
        return HTTPException(
            413, {"code": "too_large", "message": f"The body has more than {self._most_bytes:,} bytes."}
        )


def guarded_route(access: Access) -> type[APIRoute]:
    """A class of routes whose callers are admitted first, and whose errors of stepwell are JSON."""

    class GuardedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                try:
                    await access.admit(request)
                    # FastAPI gets no body: it would read any length of it, and before it is known who sends it.
                    return await handle(Request(request.scope, _no_body))
                except DurableError as error:
                    return error_response(error)

            return guarded

    return GuardedRoute


class EventStream(StreamingResponse):
    """Server-sent events; their source is closed however the response ends."""

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the events."""
        async with aclosing(self._events):
            await super().__call__(scope, receive, send)


def json_response(value: Any, status: int = 200, **headers: str) -> Response:
    """The value as JSON, in any form that msgspec encodes."""
    return Response(encoded(value), status, headers, "application/json")


def error_response(error: DurableError) -> Response:
    """An error as FastAPI's own are: `detail`, which has `code` and `message`."""
    return json_response({"detail": detail_of(error)}, log_if_internal(error))


def log_if_internal(error: DurableError) -> int:
    """The status of the error, which is logged if the caller is not told what it says."""
    status = status_for(error)
    if status >= INTERNAL:
        _log.error("A request failed: %s", error, exc_info=error)
    return status


async def _called(function: Callable[..., Any], *given: object) -> Any:
    """What an async function gives, or a plain one, which may block and so is called in a thread."""
    if iscoroutinefunction(function):
        return await function(*given)
    found = await run_in_threadpool(function, *given)
    return await found if isawaitable(found) else found


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}
