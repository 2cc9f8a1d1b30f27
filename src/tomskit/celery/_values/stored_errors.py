"""Errors of tasks, as they are stored and as they are made again where a result is read.

Celery stores the name of the class, its module and ``args``. Many classes cannot be made of these:
their ``__init__`` takes something else. So what pickle would use is stored beside them, where JSON
has it: plain clients read the rest. Nothing here runs anything by a name from the wire but classes
of exceptions that the program has imported already, or that a setting allows to be imported.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Final, TypeGuard

from celery.utils.log import get_logger
from celery.utils.saferepr import saferepr
from celery.utils.serialization import UnpickleableExceptionWrapper
from pydantic_core import InitErrorDetails, ValidationError

from tomskit.celery._internals import pydantic_core as internals
from tomskit.celery._internals.pydantic_core import is_node
from tomskit.celery._values.wire import UNCHANGED
from tomskit.errors import RemoteTaskError

__all__ = ("DETAILS", "details_of", "error_from", "original_of")

logger: Final = get_logger(__name__)

DETAILS: Final = "exc_tomskit"
"""The key of what Celery does not store."""

_EXCEPTION, _TUPLE = "__exception__", "__tuple__"
_MOST_ERRORS: Final = 100
"""Errors within one: causes, and those of a group."""
_DEEPEST: Final = 20


# Writing


def original_of(error: Exception) -> Exception:
    """The error that a task has raised.

    For one that pickle cannot copy Celery stores another in its place. Where it does that, the
    original is being handled.
    """
    original = sys.exception()
    if not isinstance(original, Exception) or original is error:
        return error
    if isinstance(error, UnpickleableExceptionWrapper):
        names = (error.exc_module, error.exc_cls_name)
        is_it = names == (type(original).__module__, type(original).__name__)
    else:
        # It takes a base class that pickle can copy, if there is one.
        is_it = isinstance(original, type(error)) and original.args == error.args
    return original if is_it else error


def details_of(error: BaseException) -> dict[str, object]:
    """What Celery does not store of an error and is needed to make it again; often nothing."""
    return _Writer().details_of(error, 0)


class _Writer:
    """Writes one error, and those in it."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._is_exact = True

    def details_of(self, error: BaseException, depth: int) -> dict[str, object]:
        self._seen.add(id(error))
        details: dict[str, object] = {}
        if isinstance(error, ValidationError):
            details["validation"] = self._validation(error)
        else:
            made_of, state = _made_of(error)
            self._is_exact = True
            args = [self._write(one, depth) for one in error.args]
            if args != [*error.args]:
                details["args"] = args
            if made_of is not None:
                shown = _without_hidden(error, made_of)
                details["made_of"] = [self._write(one, depth) for one in shown]
            kept = {name: self._write(one, depth) for name, one in state.items() if _is_kept(one)}
            if kept:
                details["state"] = kept
            if len(kept) < len(state) or not self._is_exact:
                details["partial"] = True
        bases = _bases_of(type(error))
        if bases:
            details["bases"] = bases
        cause = error.__cause__
        if cause is not None and self._takes(cause, depth):
            details["cause"] = self._error(cause, depth + 1)
        return details

    def _takes(self, error: BaseException, depth: int) -> bool:
        # A cause may be the cause of itself.
        is_new = id(error) not in self._seen
        return is_new and depth < _DEEPEST and len(self._seen) < _MOST_ERRORS

    def _error(self, error: BaseException, depth: int) -> dict[str, object]:
        is_exact = self._is_exact
        kind = type(error)
        args = [one if type(one) in UNCHANGED else saferepr(one) for one in error.args]
        stored: dict[str, object] = {
            "exc_type": kind.__qualname__,
            "exc_module": kind.__module__,
            "exc_message": args,
        }
        details = self.details_of(error, depth)
        self._is_exact = is_exact
        return {**stored, DETAILS: details} if details else stored

    def _write(self, value: object, depth: int) -> object:
        if type(value) in UNCHANGED:
            return value
        if depth < _DEEPEST:
            if isinstance(value, BaseException) and len(self._seen) < _MOST_ERRORS:
                return {_EXCEPTION: self._error(value, depth + 1)}
            if _is_list(value):
                return [self._write(one, depth + 1) for one in value]
            if _is_tuple(value):
                return {_TUPLE: [self._write(one, depth + 1) for one in value]}
            if _is_plain_dict(value):
                return {name: self._write(one, depth + 1) for name, one in value.items()}
        self._is_exact = False
        return saferepr(value)

    def _validation(self, error: ValidationError) -> dict[str, object]:
        is_hidden = internals.hides_input(error)
        return {
            "title": error.title,
            "is_hidden": is_hidden,
            "errors": [
                {
                    "type": one["type"],
                    "loc": [*one["loc"]],
                    "msg": one["msg"],
                    "input": None if is_hidden else self._write(one["input"], 0),
                }
                for one in error.errors(include_url=False, include_context=False)
            ],
        }


def _bases_of(kind: type[BaseException]) -> list[list[str]]:
    """The classes by which it may be caught where its own is not known."""
    if kind.__module__ == "builtins":
        return []
    _, *bases = kind.__mro__
    return [
        [base.__module__, base.__qualname__]
        for base in bases
        if issubclass(base, Exception) and base is not Exception
    ]


def _made_of(
    error: BaseException,
) -> tuple[tuple[object, ...] | None, Mapping[str, object]]:
    """What pickle would make it of: arguments, None where they are ``args``, and attributes."""
    try:
        reduced: object = error.__reduce_ex__(2)
    except Exception:  # noqa: BLE001
        # Its class is the application's.
        return None, {}
    if not _is_tuple(reduced) or reduced[0] is not type(error):
        return None, {}
    args, state = reduced[1], reduced[_STATE] if len(reduced) > _STATE else None
    is_other = _is_tuple(args) and args != error.args
    return args if is_other and _is_tuple(args) else None, state if _is_plain_dict(state) else {}


_STATE: Final = 2
"""Where the attributes are in what ``__reduce_ex__`` returns."""


def _without_hidden(error: BaseException, args: tuple[object, ...]) -> list[object]:
    # SQLAlchemy's: the application has asked that the parameters of its statements are not shown.
    hidden: object = None
    if getattr(error, "hide_parameters", False) is True:
        hidden = getattr(error, "params", None)
    return [None if hidden is not None and one is hidden else one for one in args]


def _is_kept(value: object) -> bool:
    """Whether an attribute can be carried. If not it is left out: its text is of another type."""
    if _is_list(value) or _is_tuple(value):
        return all(map(_is_kept, value))
    if _is_plain_dict(value):
        return all(map(_is_kept, value.values()))
    return type(value) in UNCHANGED or isinstance(value, BaseException)


# Reading


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
    args = tuple(message) if _is_list(message) or _is_tuple(message) else (message,)
    found = stored.get(DETAILS)
    details: Mapping[str, object] = found if _is_plain_dict(found) else {}
    args = _read_items(details.get("args"), allowed, args)
    kind = _class_of(module, name, allowed)
    error = None if kind is None else _made(kind, args, details, allowed)
    if error is None:
        error = _unknown_error(module, name, args, details.get("bases"), allowed)
    cause = details.get("cause")
    if _is_plain_dict(cause):
        error.__cause__ = error_from(cause, allowed)
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
            return _validation_error(validation) if _is_plain_dict(validation) else None
        made_of = _read_items(details.get("made_of"), allowed, args)
        error = _called(kind, made_of)
        if error is None and details and "partial" not in details:
            # Its __init__ takes something else. All that it has made of that is known.
            error = kind.__new__(kind, *args)
        if error is None:
            return None
        state = details.get("state")
        if _is_plain_dict(state):
            vars(error).update({one: _read(value, allowed) for one, value in state.items()})
        # Of a text __init__ may have made another one.
        error.args = args
        # It may need an attribute that is not there.
        _ = str(error), repr(error)
    except Exception:  # noqa: BLE001
        # Its class is the application's.
        return None
    return error


def _called(kind: type[Exception], args: Sequence[object]) -> Exception | None:
    try:
        error: object = kind(*args)
    except Exception:  # noqa: BLE001
        return None
    # A class may make something else of itself.
    return error if _is_error(error) else None


def _validation_error(stored: Mapping[str, object]) -> Exception:
    errors = stored.get("errors")
    details: list[InitErrorDetails] = []
    for one in errors if _is_list(errors) else ():
        if _is_plain_dict(one):
            location = one.get("loc")
            # Braces in the text stay, where there is nothing to put in their place.
            kind = internals.custom_error(str(one.get("type")), str(one.get("msg")))
            steps = location if _is_list(location) else ()
            loc = tuple(step for step in steps if isinstance(step, (int, str)))
            details.append(InitErrorDetails(type=kind, loc=loc, input=_read(one.get("input"), ())))
    is_hidden = stored.get("is_hidden") is True
    title = str(stored.get("title"))
    return ValidationError.from_exception_data(title, details, hide_input=is_hidden)


def _read_items(
    stored: object, allowed: Sequence[str], otherwise: tuple[object, ...]
) -> tuple[object, ...]:
    return tuple(_read(one, allowed) for one in stored) if _is_list(stored) else otherwise


def _read(stored: object, allowed: Sequence[str]) -> object:
    if _is_list(stored):
        return [_read(one, allowed) for one in stored]
    if not _is_plain_dict(stored):
        return stored
    if stored.keys() == {_EXCEPTION}:
        inner = stored[_EXCEPTION]
        return error_from(inner, allowed) if _is_plain_dict(inner) else inner
    if stored.keys() == {_TUPLE}:
        inner = stored[_TUPLE]
        return tuple(_read(one, allowed) for one in inner) if _is_list(inner) else inner
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
    for names in bases if _is_list(bases) else ():
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
    except Exception:  # noqa: BLE001
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


def _is_list(value: object) -> TypeGuard[list[object]]:
    return type(value) is list


def _is_tuple(value: object) -> TypeGuard[tuple[object, ...]]:
    return type(value) is tuple


def _is_plain_dict(value: object) -> TypeGuard[dict[str, object]]:
    return is_node(value) and type(value) is dict and all(map(_is_text, value.keys()))


def _is_text(value: object) -> bool:
    return isinstance(value, str)
