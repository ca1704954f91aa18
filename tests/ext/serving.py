"""A FastAPI app over a store, called without a server, and what its tests share. No test lives here."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
from fastapi import FastAPI, Request

from stepwell import Context, Durable, durable
from stepwell.ext.fastapi import Identity, lifespan, router

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stepwell import Workflow

ADA, BOB = {"x-user": "ada"}, {"x-user": "bob"}


def order() -> Workflow:
    """A workflow with a step, a wait for a signal, and another step."""

    async def price(ctx: Context) -> Any:
        return ctx.input

    async def ship(ctx: Context) -> Any:
        return ctx.results["approval"]

    return durable("order").step("price", price).wait_for_signal("approval", "approval").step("ship", ship)


def by_header(request: Request) -> Identity | None:
    """The identity that a header names."""
    name = request.headers.get("x-user")
    return None if name is None else Identity(name)


def shop_of(url: str = "sqlite://", *workflows: Workflow, **options: Any) -> Durable:
    """An app with that workflow, or these."""
    return Durable(url, workflows or [order()], signing_keys=["a secret for tests"], **options)


@asynccontextmanager
async def served(shop: Durable, *, worker: bool = True, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a FastAPI app with the router under /runs."""
    app = FastAPI(lifespan=lifespan(shop, worker=worker))
    app.include_router(router(shop, **{"auth": by_header, **options}), prefix="/runs")
    async with entered(app) as client:
        yield client


@asynccontextmanager
async def entered(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app whose lifespan has begun."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as client,
    ):
        yield client


def events_in(text: str) -> list[tuple[str, str | None, str]]:
    """The events of a stream: name, id and data."""
    assert "\r" not in text
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            found.append((fields["event"], fields.get("id"), fields["data"]))
    return found
