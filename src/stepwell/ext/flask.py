"""Runs behind Flask: `Stepwell(app, shop)` has the calls of a Durable without `await`, and answers its errors."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from stepwell.ext import missing

try:
    from flask import Flask, Response, current_app
except ModuleNotFoundError as _error:
    raise missing("flask", _error) from None

from stepwell.blocking import BlockingDurable
from stepwell.errors import DurableError
from stepwell.ext.http_access import INTERNAL, detail_of, encoded, run_as_json, status_for

if TYPE_CHECKING:
    from stepwell.app import Durable
    from stepwell.reading.records import RunSnapshot
    from stepwell.runtime.portal import LoopFactory

__all__ = ["Stepwell", "run_response", "stepwell_of_app"]

_NAME = "stepwell"
_log = logging.getLogger("stepwell.flask")


class Stepwell(BlockingDurable):
    """The calls of a Durable for the views of a Flask app, see `BlockingDurable`.

    In each process the first call opens the store: nothing is opened while a server imports and forks. It starts no
    worker: run `stepwell worker` beside the server, or serve inside `with runs.worker():`.

    - `app`: the Flask app, or None: `init_app` takes it later.
    - `shop`: the Durable, not entered.
    - `loop_factory`: as for `Durable.blocking`.

    An error of stepwell that leaves a view is answered as JSON, `{"code": …, "message": …}`: 404 for an unknown run or
    workflow, 409 for a run that failed or was canceled, 422 for a value or key that is not accepted, 503 while the
    store is not available.
    """

    def __init__(self, app: Flask | None, shop: Durable, *, loop_factory: LoopFactory | None = None) -> None:
        super().__init__(shop, loop_factory=loop_factory)
        self._portals.open(at_once=False)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Makes this the `stepwell_of_app` of the Flask app, and has its errors answered there."""
        app.extensions[_NAME] = self
        app.register_error_handler(DurableError, _answer)


def stepwell_of_app() -> Stepwell:
    """Returns the `Stepwell` of the Flask app that serves the current request. Raises KeyError if it has none."""
    return cast("Stepwell", current_app.extensions[_NAME])


def run_response(run: RunSnapshot, status: int = 200) -> Response:
    """Returns a response with the fields of a run as JSON, instants as ISO 8601, errors without their tracebacks."""
    return _json(run_as_json(run), status)


def _answer(error: DurableError) -> Response:
    status = status_for(error)
    if status >= INTERNAL:
        _log.error("A view ended with %s.", error.code, exc_info=error)
    return _json(detail_of(error), status)


def _json(value: Any, status: int) -> Response:
    return Response(encoded(value), status, mimetype="application/json")
