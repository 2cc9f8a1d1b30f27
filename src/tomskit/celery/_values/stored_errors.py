"""Errors of tasks, as they are stored; `read_errors` makes them again where a result is read.

Celery stores the name of the class, its module and ``args``. Many classes cannot be made of these:
their ``__init__`` takes something else. So what pickle would use is stored beside them, where JSON
has it: plain clients read the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MemberDescriptorType
from typing import Final, TypeGuard

from celery.utils.saferepr import saferepr
from celery.utils.serialization import UnpickleableExceptionWrapper
from pydantic_core import ValidationError

from tomskit.celery._internals import pydantic_core as internals
from tomskit.celery._internals.pydantic_core import is_node
from tomskit.celery._values.wire import UNCHANGED

__all__ = (
    "DETAILS",
    "EXCEPTION",
    "TUPLE",
    "details_of",
    "is_list",
    "is_plain_dict",
    "is_tuple",
    "original_of",
    "without_marks",
)

DETAILS: Final = "exc_tomskit"
"""The key of what Celery does not store."""

EXCEPTION: Final = "__exception__"
TUPLE: Final = "__tuple__"
"""The keys of dicts that stand for what JSON has not."""
_MOST_ERRORS: Final = 100
"""Errors within one: causes, and those of a group."""
_DEEPEST: Final = 20


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
        is_it = isinstance(original, type(error)) and not _differ(original.args, error.args)
    return original if is_it else error


def details_of(error: BaseException) -> dict[str, object]:
    """What Celery does not store of an error and is needed to make it again; often nothing."""
    return _Writer().details_of(error, 0)


class _Writer:
    """Writes one error, and those in it."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._above: set[int] = set()
        self._is_exact = True

    def details_of(self, error: BaseException, depth: int) -> dict[str, object]:
        """What is needed to make an error, which may be in itself."""
        self._seen.add(id(error))
        self._above.add(id(error))
        try:
            return self._details_of(error, depth)
        finally:
            self._above.discard(id(error))

    def _details_of(self, error: BaseException, depth: int) -> dict[str, object]:
        details: dict[str, object] = {}
        if isinstance(error, ValidationError):
            details["validation"] = self._validation(error)
        else:
            made_of, state = _made_of(error)
            self._is_exact = True
            args = [self._write(one, depth) for one in error.args]
            if _differ(args, [*error.args]):
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
        if depth < _DEEPEST and id(value) not in self._above and not _is_mark(value):
            self._above.add(id(value))
            try:
                return self._write_parts(value, depth)
            finally:
                self._above.discard(id(value))
        return self._text(value)

    def _write_parts(self, value: object, depth: int) -> object:
        if isinstance(value, BaseException) and len(self._seen) < _MOST_ERRORS:
            return {EXCEPTION: self._error(value, depth + 1)}
        if is_list(value):
            return [self._write(one, depth + 1) for one in value]
        if is_tuple(value):
            return {TUPLE: [self._write(one, depth + 1) for one in value]}
        if is_plain_dict(value):
            return {name: self._write(one, depth + 1) for name, one in value.items()}
        return self._text(value)

    def _text(self, value: object) -> str:
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
    slots = _slots_of(error)
    try:
        reduced: object = error.__reduce_ex__(2)
    except Exception:  # noqa: BLE001
        # Its class is the application's.
        reduced = None
    if not is_tuple(reduced) or reduced[0] is not type(error):
        return None, {**_held(error), **slots}
    args, state = reduced[1], reduced[_STATE] if len(reduced) > _STATE else None
    is_other = is_tuple(args) and _differ(args, error.args)
    held = state if is_plain_dict(state) else {}
    return args if is_other and is_tuple(args) else None, {**held, **slots}


def _differ(one: object, other: object) -> bool:
    try:
        return bool(one != other)
    except Exception:  # noqa: BLE001
        # What compares them is the application's, such as that of arrays.
        return True


def _held(error: BaseException) -> Mapping[str, object]:
    return vars(error)


def _slots_of(error: BaseException) -> dict[str, object]:
    """The attributes of an error that its classes keep in slots, which pickle leaves out."""
    names = {
        name
        for kind in type(error).__mro__
        if kind.__module__ != "builtins"
        for name, member in vars(kind).items()
        if isinstance(member, MemberDescriptorType)
    }
    return {name: getattr(error, name) for name in sorted(names) if hasattr(error, name)}


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
    if is_list(value) or is_tuple(value):
        return all(map(_is_kept, value))
    if is_plain_dict(value):
        return all(map(_is_kept, value.values()))
    return type(value) in UNCHANGED or isinstance(value, BaseException)


def without_marks(value: object) -> object:
    """What JSON has, with a text for each dict that kombu would take for a typed value."""
    if is_list(value):
        return [without_marks(one) for one in value]
    if is_tuple(value):
        return tuple(without_marks(one) for one in value)
    if is_plain_dict(value) and not _is_mark(value):
        return {name: without_marks(one) for name, one in value.items()}
    return saferepr(value) if _is_mark(value) else value


def _is_mark(value: object) -> bool:
    return is_plain_dict(value) and value.keys() == {"__type__", "__value__"}


def is_list(value: object) -> TypeGuard[list[object]]:
    return type(value) is list


def is_tuple(value: object) -> TypeGuard[tuple[object, ...]]:
    return type(value) is tuple


def is_plain_dict(value: object) -> TypeGuard[dict[str, object]]:
    return is_node(value) and type(value) is dict and all(map(_is_text, value.keys()))


def _is_text(value: object) -> bool:
    return isinstance(value, str)
