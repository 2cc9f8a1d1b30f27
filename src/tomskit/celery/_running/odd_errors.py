"""Errors that cannot be shown: Celery, billiard and logging would fail at them, and with them the worker.

An error's class may define what nobody expects to fail: how it is written, copied or compared with nothing.
Celery expects an Exception of most of these methods, and none of some. What it does not expect ends the process of
a prefork pool; with `reject_on_worker_lost` the task then runs without end.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final
from weakref import WeakKeyDictionary

from celery.exceptions import TaskPredicate

from tomskit.celery._running.long_errors import leave_out_links
from tomskit.errors import TaskExitError
from tomskit.showing import name_of, shown

__all__ = ("raise_showable",)

_ASKED_FOR: Final = frozenset(
    {
        *(
            "__bool__",
            "__cause__",
            "__class__",
            "__context__",
            "__dict__",
            "__getattr__",
            "__getattribute__",
        ),
        *(
            "__getstate__",
            "__len__",
            "__notes__",
            "__reduce__",
            "__reduce_ex__",
            "__repr__",
            "__setstate__",
        ),
        *("__str__", "__suppress_context__", "__traceback__", "args", "exceptions"),
    }
)
"""What a class may define that is asked for when one of its errors is shown or copied."""

_PLAIN: Final = frozenset((bool, bytes, float, int, str, type(None)))
_MOST: Final = 100
"""Errors that are looked at: those that have led to one, and those in a group."""

_base: Final[Any] = vars(BaseException)
_group: Final[Any] = vars(BaseExceptionGroup)
_known: Final[WeakKeyDictionary[type, bool]] = WeakKeyDictionary()


def raise_showable(error: BaseException) -> None:
    """Raise another error in place of one that cannot be shown or copied; called where that is handled.

    What is no Exception is meant for the worker, or for the code around a task. A long chain of errors loses its
    middle: Celery writes the traceback where the event loop runs.
    """
    leave_out_links(error)
    if not issubclass(type(error), Exception) or all(map(_is_usual, _errors_of(error))):
        return
    made = _in_place_of(error)
    if made is None:
        return
    if issubclass(type(error), TaskPredicate):
        # The retry has been sent.
        error.__cause__ = error.__context__ = None
        return
    try:
        raise made.with_traceback(_base["__traceback__"].__get__(error)) from None
    finally:
        made.__context__ = None


def _in_place_of(error: BaseException) -> TaskExitError | None:
    what = f"The task raised {name_of(error)}"
    try:
        traceback.format_exception(error)
    except BaseException as exc:  # noqa: BLE001 (a method of the application's may raise anything)
        return TaskExitError(f"{what}, of which no traceback can be made: {shown(exc)}")
    if issubclass(type(error), TaskPredicate):
        return None  # it can be copied, and a copy of a Retry is a cycle
    try:
        # With an Exception here Celery takes a text of its own, or stores another error in its place.
        with suppress(Exception):
            repr(error)
        with suppress(Exception):
            pickle.loads(pickle.dumps(error))  # noqa: S301 (made here)
    except BaseException as exc:  # noqa: BLE001 (the same)
        return TaskExitError(f"{what}, which can neither be shown nor copied: {shown(exc)}")
    return None


def _is_usual(error: BaseException) -> bool:
    kind = type(error)
    is_usual = _known.get(kind)
    if is_usual is None:
        is_usual = _known[kind] = all(
            base.__module__ == "builtins" or _ASKED_FOR.isdisjoint(vars(base))
            for base in kind.__mro__
        )
    # What is written, and copied, has their texts in it.
    return is_usual and all(type(one) in _PLAIN for one in _args_of(error))


def _args_of(error: BaseException) -> tuple[object, ...]:
    args: tuple[object, ...] = _base["args"].__get__(error)
    # Those in a group are looked at by themselves.
    return args[:1] if issubclass(type(error), BaseExceptionGroup) else args


def _errors_of(error: BaseException) -> Iterator[BaseException]:
    """An error, those that have led to it and those in it, each once, as Python itself keeps them."""
    left: list[BaseException] = [error]
    known: set[int] = set()
    while left and len(known) < _MOST:
        one = left.pop()
        if id(one) in known:
            continue
        known.add(id(one))
        yield one
        left += [
            other
            for name in ("__cause__", "__context__")
            if (other := _base[name].__get__(one)) is not None
        ]
        if issubclass(type(one), BaseExceptionGroup):
            left += _group["exceptions"].__get__(one)
