"""Loads the `Durable` that `--app` and `--url` name; reports every mistake in one line."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
import traceback
from contextlib import asynccontextmanager, contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell import Durable
from stepwell.cli.problems import CommandError
from stepwell.cli.settings import APP_VARIABLE, URL_VARIABLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator
    from types import ModuleType

    from stepwell.cli.settings import Settings

NEEDS_APP = f"This command needs your workflows. Pass --app MODULE:ATTR or set {APP_VARIABLE}."
NEEDS_STORE = f"No store given. Pass --url URL or --app MODULE:ATTR, or set {URL_VARIABLE} or {APP_VARIABLE}."


@asynccontextmanager
async def opened(found: Durable | Awaitable[Any], settings: Settings) -> AsyncIterator[Durable]:
    """The app, entered; awaits it first if `found` is the result of an async function."""
    async with await settled(found, settings) as app:
        yield app


async def settled(found: Durable | Awaitable[Any], settings: Settings) -> Durable:
    """The app, not yet entered."""
    if isinstance(found, Durable):
        return found
    spec = str(settings.app)
    with _telling(spec, "calling it failed"):
        given = await found
    return _with_url(_checked(spec, given), settings.url)


def app_with_workflows(settings: Settings) -> Durable | Awaitable[Any]:
    """The app that `--app` names, for the commands that need workflow code."""
    if not settings.app:
        raise CommandError("usage", NEEDS_APP)
    found = _given(settings.app)
    return _with_url(found, settings.url) if isinstance(found, Durable) else found


def app_of_store(settings: Settings) -> Durable | Awaitable[Any]:
    """An app for the commands that need only the store: for `--url` if given, else the one that `--app` names."""
    if settings.url:
        return _at(settings.url)
    if settings.app:
        return _given(settings.app)
    raise CommandError("usage", NEEDS_STORE)


def _at(url: str) -> Durable:
    try:
        return Durable(url)
    except ValueError as error:
        raise CommandError("usage", f"--url {url}: {error}") from None


def _with_url(app: Durable, url: str | None) -> Durable:
    return app if url is None else app.at(url)


def _given(spec: str) -> Durable | Awaitable[Any]:
    """The Durable that `module:attr` names, or the result of the function, which may be an awaitable."""
    module_name, _, path = spec.partition(":")
    if not module_name or not path:
        raise _not_loaded(spec, "expected MODULE:ATTR, for example shop:app.")
    if "/" in module_name or module_name.endswith(".py"):
        dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise _not_loaded(spec, f"expected a module name, not a file: {dotted}:{path}.")
    found: Any = _module(spec, module_name)
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise _not_loaded(spec, _without(found, module_name, name)) from None
    if isinstance(found, Durable):
        return found
    if not callable(found) or inspect.isclass(found):
        raise _not_loaded(spec, f"it is {_kind(found)}, not a Durable or a function that returns one.")
    with _telling(spec, "calling it failed"):
        given = found()
    return given if inspect.isawaitable(given) else _checked(spec, given)


def _module(spec: str, name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        with _telling(spec, f"importing {name} failed"):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        raise _not_loaded(spec, f"no module {missing} in {here} or on Python's path.") from None


@contextmanager
def _telling(spec: str, what: str) -> Iterator[None]:
    """Turn an exception of the user's code into one line that names the place; its output goes to stderr."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (KeyboardInterrupt, asyncio.CancelledError, CommandError):
        raise
    except SyntaxError as error:
        place = f"{Path(error.filename or '?').name}, line {error.lineno}"
        raise _not_loaded(spec, f"{what}: {type(error).__name__}: {error.msg} ({place}).") from None
    except BaseException as error:  # Includes SystemExit: a module that exits on import is a mistake to report.
        if isinstance(error, ModuleNotFoundError) and _is_of(spec, error.name):
            raise
        raise _not_loaded(spec, f"{what}: {_said(error)}{_place(error)}.") from None


def _is_of(spec: str, missing: str | None) -> bool:
    """Whether the missing module is the one that was named, not one that it imports."""
    module = spec.partition(":")[0]
    return missing is not None and f"{module}.".startswith(f"{missing}.")


def _said(error: BaseException) -> str:
    try:
        message = str(error)
    except Exception:  # noqa: BLE001  str() of a user's exception may raise anything
        message = ""
    return f"{type(error).__name__}: {message}".rstrip(": .")


def _place(error: BaseException) -> str:
    """The last line of the user's own code that led to the error, else of any other code except this module."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen ") and frame.filename != __file__
    ]
    own = [f for f in frames if Path.cwd() in Path(f.filename).parents and "site-packages" not in f.filename]
    if not frames:
        return ""
    last = (own or frames)[-1]
    return f" ({Path(last.filename).name}, line {last.lineno})"


def _without(owner: Any, module_name: str, name: str) -> str:
    known = sorted(key for key, item in vars(owner).items() if isinstance(item, Durable)) if _has_names(owner) else []
    hint = f" Known: {', '.join(known)}." if known else ""
    where = f"module {module_name}" if inspect.ismodule(owner) else _kind(owner)
    return f"{where} has no attribute {name}.{hint}"


def _has_names(owner: Any) -> bool:
    return hasattr(owner, "__dict__")


def _checked(spec: str, given: Any) -> Durable:
    if isinstance(given, Durable):
        return given
    raise _not_loaded(spec, f"the function returned {_kind(given)}, not a Durable.")


def _kind(found: Any) -> str:
    if found is None:
        return "None"
    if inspect.isclass(found):
        return f"the class {found.__name__}"
    name = type(found).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _not_loaded(spec: str, why: str) -> CommandError:
    return CommandError("app_not_loaded", f"--app {spec}: {why}")
