"""Options of a decorator that nobody reads, such as misspelt ones."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from types import CodeType
from typing import Any, Final

from tomskit.celery._tasks.task import AsyncTask
from tomskit.celery.options import AppTaskOptions

__all__ = ("check_options",)

_KNOWN: Final[frozenset[str]] = AppTaskOptions.__optional_keys__ | {
    "base",
    "bind",
    "every",
    # Celery's decorator takes this besides, and its tasks read the others when they are sent.
    "filter",
    "delivery_mode",
    "exchange",
    "immediate",
    "mandatory",
    "routing_key",
}
_ALIKE: Final = 0.7
"""How much of a name must agree: a letter or a word may be wrong."""


def check_options(
    given: Iterable[str],
    kind: type[AsyncTask[..., object]],
    function: Callable[..., object],
    name: str,
) -> None:
    """Refuse options that neither Celery nor the task's class nor its function reads.

    Celery makes an attribute of each, and nothing ever says that it is misspelt.

    Args:
        given: The names of the options.
        kind: The class of the task. It declares the attributes that it has, or has methods that name
            them.
        function: The function of the task.
        name: The task, as the error calls it.

    Raises:
        TypeError: Nobody reads one of them.
    """
    unknown = [one for one in given if one not in _KNOWN and not hasattr(kind, one)]
    if not unknown:
        return
    plain: type[AsyncTask[..., object]] = AsyncTask
    own = {one: vars(one) for one in kind.__mro__ if not issubclass(plain, one)}
    declared = {one for members in own.values() for one in members}
    annotated = {one for cls in own for one in inspect.get_annotations(cls)}
    named = _names_in(function).union(
        *(_names_in(member) for members in own.values() for member in members.values())
    )
    for option in unknown:
        if option in annotated or option in named:
            continue
        candidates = sorted(one for one in _KNOWN | declared | annotated if one[0] != "_")
        near = get_close_matches(option, candidates, n=1, cutoff=_ALIKE)
        hint = f"did you mean {near[0]}? " if near else ""
        raise TypeError(
            f"The task {name} has an option {option}, which nobody reads: {hint}"
            "An attribute of your own has to be declared in a class that is given as base."
        )


def _names_in(member: object) -> frozenset[str]:
    """The names and texts in a function or method."""
    return frozenset(_names_of(code) if (code := _code_of(member)) is not None else ())


def _code_of(member: Any) -> CodeType | None:
    if isinstance(member, property):
        return _code_of(member.fget)
    for name in (
        "__func__",
        "func",
    ):  # of a staticmethod or a classmethod, a partial or a cached_property
        if (inner := getattr(member, name, None)) is not None:
            return _code_of(inner)
    code: object = getattr(inspect.unwrap(member), "__code__", None) if callable(member) else None
    return code if isinstance(code, CodeType) else None


def _names_of(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, CodeType):
            yield from _names_of(constant)
