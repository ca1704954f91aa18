"""What a user's functions declare by their annotations, and whether they can be called as they will be."""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, Union, get_args, get_origin

from stepwell.errors import DefinitionError
from stepwell.workflow.declared import DeclaredType, declared, name_of
from stepwell.workflow.policy import Suspended

if TYPE_CHECKING:
    from collections.abc import Mapping

UNSET: Any = object()
"""An option that was not given."""
_PACKAGE = __name__.partition(".")[0]
_NEVER = (typing.NoReturn, typing.Never, inspect.Parameter.empty)


class Declaration:
    """What one value of a node is declared to be, by an option or else by an annotation; held by the node.

    An annotation may name a class that is defined further down, so what cannot be resolved is tried once more when the
    workflow is closed; then `hint` tells of it, and the value is undeclared. `handler`: the function as it was given,
    whatever takes its place in tests.
    """

    __slots__ = ("_look", "handler", "hint", "type")

    def __init__(self, type_: DeclaredType | None = None, handler: object = None) -> None:
        self.type: DeclaredType | None = type_
        self.hint: str = ""
        self.handler: object = handler
        self._look: Any = None

    def resolve(self) -> None:
        """Tries once more what could not be resolved; raises DefinitionError for a type that cannot be used."""
        if self._look is not None:
            self._look(self)

    def look(self, look: Any) -> Declaration:
        """Takes what gives the type, and tries it."""
        self._look = look
        self.resolve()
        return self


UNDECLARED = Declaration()


class HandlerTypes(NamedTuple):
    """What is declared of a handler: its result, what it leaves in a `Suspended`, what answers that, and its input."""

    result: Declaration = UNDECLARED
    snapshot: Declaration = UNDECLARED
    resume: Declaration = UNDECLARED
    input: Declaration = UNDECLARED

    def resolve(self) -> None:
        """Tries once more what could not be resolved."""
        for one in self:
            one.resolve()


NO_TYPES = HandlerTypes()


def option(where: str, name: str, given: Any, handler: object = None) -> Declaration:
    """What an option declares; raises DefinitionError."""
    return Declaration(None if given is UNSET else declared(given, f"{where}: {name}"), handler)


def result_of(where: str, function: Any, given: Any = UNSET) -> Declaration:
    """What a handler returns: as the option says, or else its annotation. Raises DefinitionError."""
    if given is not UNSET:
        return option(where, "result", given, function)
    return _annotated(where, function, "return", "result")


def types_of(where: str, handler: Any, options: Mapping[str, Any], *, is_iteration: bool = False) -> HandlerTypes:
    """All that the options of its node and its annotations declare of a handler; raises DefinitionError."""
    return HandlerTypes(
        result_of(where, handler, options.get("result", UNSET)),
        option(where, "snapshot", options.get("snapshot", UNSET)),
        option(where, "resume", options.get("resume", UNSET)),
        parameter_of(where, handler) if is_iteration else UNDECLARED,
    )


def parameter_of(where: str, function: Any) -> Declaration:
    """What a loop's handler takes, by the annotation of its first parameter."""
    try:
        first = next(iter(inspect.signature(function).parameters.values()), None)
    except (TypeError, ValueError):
        return Declaration()
    if first is None or first.kind is inspect.Parameter.VAR_POSITIONAL:
        return Declaration()
    return _annotated(where, function, first.name, "input")


def union_of(where: str, parts: Mapping[str, Declaration]) -> Declaration:
    """What is one of these; undeclared where a part is. Raises DefinitionError if they cannot be told apart."""

    def look(of: Declaration) -> None:
        for part in parts.values():
            part.resolve()
        annotations = [None if part.type is None else part.type.annotation for part in parts.values()]
        if any(one is None for one in annotations):
            of.type = None
            return
        try:
            of.type = declared(Union[tuple(annotations)], where)  # noqa: UP007  made of a list
        except DefinitionError as error:
            raise DefinitionError(
                f"{error} Give the branches types that can be told apart, or result= to the route."
            ) from None

    return Declaration().look(look)


def check_arity(where: str, option: str, function: Any, names: str) -> None:
    """Raises DefinitionError for a function that cannot be called with these arguments."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin that does not say
        return
    expected = names.split(", ")
    try:
        signature.bind(*expected)
    except TypeError:
        plural = "" if len(expected) == 1 else "s"
        told = f"{getattr(function, '__name__', type(function).__name__)}{signature}"
        raise DefinitionError(
            f"{where}: {option} must take {len(expected)} argument{plural} ({names}), got {told:.200}."
        ) from None


def _annotated(where: str, function: Any, name: str, what: str) -> Declaration:
    namespace = _namespace()

    def look(of: Declaration) -> None:
        try:
            found = _stripped(_annotation(function, name, namespace))
        except Exception as error:  # noqa: BLE001  an annotation is an expression of the user's
            text = getattr(_annotated_one(function), "__annotations__", {}).get(name, "?")
            of.hint = (
                f"the annotation {text if isinstance(text, str) else name_of(text)} of {_name(function)} cannot be"
                f" resolved ({error}), so the value must be JSON; import it outside of `if TYPE_CHECKING`,"
                f" or give {what}=…"
            )
            return
        of.hint = ""
        of.type = None if found is UNSET else declared(found, f"{where}: {what}")

    return Declaration(handler=function).look(look)


def _annotation(function: Any, name: str, namespace: Mapping[str, Any]) -> Any:
    owner = _annotated_one(function)
    annotations = getattr(owner, "__annotations__", {})
    if name not in annotations:
        return UNSET
    inner = inspect.unwrap(owner)
    code = getattr(inner, "__code__", None)
    cells = zip(code.co_freevars, inner.__closure__ or (), strict=True) if code is not None else ()
    closure = {free: cell.cell_contents for free, cell in cells if _is_filled(cell)}
    parameters = {one.__name__: one for one in getattr(inner, "__type_params__", ())}
    only = types.SimpleNamespace(__annotations__={name: annotations[name]})
    known = {**namespace, **closure, **parameters}
    return typing.get_type_hints(only, getattr(inner, "__globals__", {}), known, include_extras=True)[name]


def _annotated_one(function: Any) -> Any:
    """The function that has the annotations: within a partial, or the call of an object."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function):
        return function
    return getattr(function, "__init__") if isinstance(function, type) else type(function).__call__  # noqa: B009  read otherwise, mypy finds it unsound


def _namespace() -> Mapping[str, Any]:
    """The local names where the workflow is built: a class may be defined in the same function."""
    frame: types.FrameType | None = sys._getframe(1)  # noqa: SLF001  the one way to know the caller's names
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == _PACKAGE:
        frame = frame.f_back
    return {} if frame is None or frame.f_locals is frame.f_globals else dict(frame.f_locals)


def _stripped(annotation: Any) -> Any:
    """What is left without awaitables and `Suspended`; UNSET for nothing that says more than the JSON rule."""
    if annotation is UNSET or any(annotation is one for one in _NEVER) or isinstance(annotation, TypeVar):
        return UNSET
    origin = get_origin(annotation)
    if origin in {Awaitable, Coroutine}:
        return _stripped(get_args(annotation)[-1])
    if origin in {Union, types.UnionType}:
        parts = [_stripped(one) for one in get_args(annotation) if one is not Suspended]
        if any(one is UNSET or one in (Any, object) for one in parts):
            return UNSET
        return Union[tuple(parts)]  # noqa: UP007  made of a list
    if annotation is Suspended or origin in {Iterator, AsyncIterator}:
        return UNSET
    return annotation


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  it raises where the variable has no value yet
    except ValueError:
        return False
    return True


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
