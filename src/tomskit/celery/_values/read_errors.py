"""Errors of tasks, made again of what is stored of them.

Nothing here runs anything by a name from the wire but classes of exceptions that the program has
imported already, or that a setting allows to be imported.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MemberDescriptorType
from typing import Any, Final, TypeGuard

from celery.utils.log import get_logger
from pydantic_core import InitErrorDetails, ValidationError

from tomskit.celery._internals import pydantic_core as internals
from tomskit.celery._values.stored_errors import (
    DETAILS,
    EXCEPTION,
    TUPLE,
    is_list,
    is_plain_dict,
    is_tuple,
)
from tomskit.errors import RemoteTaskError

__all__ = ("error_from",)

logger: Final = get_logger(__name__)

_base: Final[Any] = vars(BaseException)
"""What Python itself keeps of an error. Its class may refuse that anything is set."""


_FAILURES: Final = (Exception, SystemExit, GeneratorExit)
"""What methods of an error's class may raise, which is the application's; a reader is not to end by them."""


def error_from(stored: Mapping[str, object], allowed: Sequence[str]) -> Exception:
    """The error that was stored.

    Args:
        stored: What the result backend has of it.
        allowed: Modules that may be imported to find its class, with those below them.

    Returns:
        An instance of its class; where that is not known here or cannot be made, a
        `RemoteTaskError` of the same name, module and arguments.
    """
    name, module = str(stored.get("exc_type")), str(stored.get("exc_module"))
    message = stored.get("exc_message")
    args = tuple(message) if is_list(message) or is_tuple(message) else (message,)
    found = stored.get(DETAILS)
    details: Mapping[str, object] = found if is_plain_dict(found) else {}
    args = _read_items(details.get("args"), allowed, args)
    kind = _class_of(module, name, allowed)
    error = None if kind is None else _made(kind, args, details, allowed)
    if error is None:
        error = _unknown_error(module, name, args, details.get("bases"), allowed)
    cause = details.get("cause")
    if is_plain_dict(cause):
        _base["__cause__"].__set__(error, error_from(cause, allowed))
    return error


def _made(
    kind: type[Exception],
    args: tuple[object, ...],
    details: Mapping[str, object],
    allowed: Sequence[str],
) -> Exception | None:
    try:
        validation = details.get("validation")
        if issubclass(kind, ValidationError):
            return _validation_error(validation) if is_plain_dict(validation) else None
        made_of = _read_items(details.get("made_of"), allowed, args)
        error = _called(kind, made_of)
        if error is None and details and "partial" not in details:
            # Its __init__ takes something else. All that it has made of that is known.
            error = kind.__new__(kind, *args)
            _begin(error, args)
        if error is None:
            return None
        state = details.get("state")
        if is_plain_dict(state):
            _set(error, {one: _read(value, allowed) for one, value in state.items()})
        # Of a text __init__ may have made another one.
        _base["args"].__set__(error, args)
        # It may need an attribute that is not there.
        _ = str(error), repr(error)
    except _FAILURES:
        # Its class is the application's.
        return None
    return error


def _begin(error: Exception, args: Sequence[object]) -> None:
    """Call the ``__init__`` of the class of Python's own: OSError has its errno from there."""
    base = next(one for one in type(error).__mro__ if one.__module__ == "builtins")
    begin: object = getattr(base, "__init__", None)
    with suppress(TypeError):
        if callable(begin):
            begin(error, *args)


def _set(error: Exception, attributes: Mapping[str, object]) -> None:
    held: dict[str, object] = vars(error)
    for name, value in attributes.items():
        slot: object = inspect.getattr_static(error, name, None)
        if isinstance(slot, MemberDescriptorType):
            slot.__set__(error, value)
        else:
            # Not setattr(): it may refuse, or be a property.
            held[name] = value


def _called(kind: type[Exception], args: Sequence[object]) -> Exception | None:
    try:
        error: object = kind(*args)
    except _FAILURES:
        return None
    # A class may make something else of itself.
    return error if _is_error(error) else None


def _validation_error(stored: Mapping[str, object]) -> Exception:
    errors = stored.get("errors")
    details: list[InitErrorDetails] = []
    for one in errors if is_list(errors) else ():
        if is_plain_dict(one):
            location = one.get("loc")
            # Braces in the text stay, where there is nothing to put in their place.
            kind = internals.custom_error(str(one.get("type")), str(one.get("msg")))
            steps = location if is_list(location) else ()
            loc = tuple(step for step in steps if isinstance(step, (int, str)))
            details.append(InitErrorDetails(type=kind, loc=loc, input=_read(one.get("input"), ())))
    is_hidden = stored.get("is_hidden") is True
    title = str(stored.get("title"))
    return ValidationError.from_exception_data(title, details, hide_input=is_hidden)


def _read_items(
    stored: object, allowed: Sequence[str], otherwise: tuple[object, ...]
) -> tuple[object, ...]:
    return tuple(_read(one, allowed) for one in stored) if is_list(stored) else otherwise


def _read(stored: object, allowed: Sequence[str]) -> object:
    if is_list(stored):
        return [_read(one, allowed) for one in stored]
    if not is_plain_dict(stored):
        return stored
    if stored.keys() == {EXCEPTION}:
        inner = stored[EXCEPTION]
        return error_from(inner, allowed) if is_plain_dict(inner) else inner
    if stored.keys() == {TUPLE}:
        inner = stored[TUPLE]
        return tuple(_read(one, allowed) for one in inner) if is_list(inner) else inner
    return {name: _read(one, allowed) for name, one in stored.items()}


def _class_of(module: str, name: str, allowed: Sequence[str]) -> type[Exception] | None:
    part: object = sys.modules.get(module)
    if part is None and any(f"{module}.".startswith(f"{one}.") for one in allowed):
        try:
            part = importlib.import_module(module)
        except Exception as exc:  # noqa: BLE001
            # It is the application's.
            logger.warning("The module %s of an error cannot be imported: %r", module, exc)
    for step in name.split("."):
        # Not getattr(): a module may import others in its __getattr__.
        part = getattr(part, "__dict__", {}).get(step)
    return part if isinstance(part, type) and issubclass(part, Exception) else None


def _unknown_error(
    module: str, name: str, args: Sequence[object], bases: object, allowed: Sequence[str]
) -> RemoteTaskError:
    for names in bases if is_list(bases) else ():
        match names:
            case [str(base_module), str(base_name)]:
                base = _class_of(base_module, base_name, allowed)
            case _:
                base = None
        if base is not None and base not in RemoteTaskError.__mro__:
            error = _derived_error(module, name, base, args)
            if error is not None:
                return error
    return unknown_error(module, name, None, *args)


def _derived_error(
    module: str, name: str, base: type[Exception], args: Sequence[object]
) -> RemoteTaskError | None:
    try:
        error = unknown_error(module, name, base, *args)
        _ = str(error), repr(error)
    except _FAILURES:
        # It cannot be made of these, or not together with our class.
        return None
    return error


@functools.lru_cache(maxsize=1024)
def _unknown_class(module: str, name: str, base: type[Exception] | None) -> type[RemoteTaskError]:
    def reduce(error: RemoteTaskError) -> tuple[object, ...]:
        return unknown_error, (module, name, base, *error.args)

    namespace = {
        "__module__": module,
        "__qualname__": name,
        "__reduce__": reduce,
        "error_module": module,
        "error_name": name,
    }
    bases = (RemoteTaskError,) if base is None else (RemoteTaskError, base)
    return type(name.rpartition(".")[2], bases, namespace)


def unknown_error(
    module: str, name: str, base: type[Exception] | None, *args: object
) -> RemoteTaskError:
    """An error whose class is not known, or cannot be made; with a base class that is."""
    kind = _unknown_class(module, name, base)  # type: ignore[arg-type] # classes are hashable
    return kind(*args)


def _is_error(value: object) -> TypeGuard[Exception]:
    return isinstance(value, Exception)
