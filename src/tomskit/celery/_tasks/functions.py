"""What may be decorated: coroutine functions, and what can be called like one."""

from __future__ import annotations

import functools
import inspect
import keyword
from collections.abc import Callable, Coroutine
from typing import Any, Never, TypeAlias

from celery import Task

from tomskit.errors import ConfigurationError, NotACoroutineFunctionError

__all__ = ("CoroutineFunction", "coroutine_function", "is_async", "is_task")

CoroutineFunction: TypeAlias = Callable[..., Coroutine[object, Never, object]]


def is_async(found: object) -> bool:
    """Whether calling this makes a coroutine or an asynchronous generator, as far as one can see."""
    written = _written(found)
    return inspect.iscoroutinefunction(written) or inspect.isasyncgenfunction(written)


def is_task(found: object) -> bool:
    """Whether it is a task, or stands for one."""
    return isinstance(found, Task)


def coroutine_function(found: object, *, name: str | None, bind: bool) -> CoroutineFunction:
    """The coroutine function that a decorator was put on.

    Args:
        found: What it was put on.
        name: The name that the task was given.
        bind: Whether the task is passed to the function.

    Raises:
        NotACoroutineFunctionError: It is none.
        ConfigurationError: It has no name of its own and was given none, or takes ``self`` and
            nothing passes it, or is passed the task and cannot take it.
    """
    written = _written(found)
    if not inspect.iscoroutinefunction(written):
        raise NotACoroutineFunctionError(_refusal(found, written))
    within: object = found.__func__ if isinstance(found, staticmethod) else found
    if within is written:
        function: Any = written
    elif inspect.ismethod(within):
        function = _calling(within, written, name or within.__name__)
    elif not name:
        raise ConfigurationError(
            f"{found!r} has no name of its own that a task could have: give it one, as in "
            '@async_shared_task(name="shop.charge").'
        )
    else:
        function = _calling(within, written, name)
    # A type checker would accept a method here, whose self is there already.
    first = next(iter(inspect.signature(function).parameters.values()), None)
    if bind and (first is None or first.kind in {first.KEYWORD_ONLY, first.VAR_KEYWORD}):
        raise ConfigurationError(
            f"The task {function.__qualname__} has bind=True, which passes it the task, and no positional "
            "parameter: add self as its first one, or leave bind=True out."
        )
    if not bind and first is not None and first.name == "self":
        raise ConfigurationError(
            f"The task {function.__qualname__} takes self, but nothing passes it: "
            "write bind=True, as in @async_shared_task(bind=True)."
        )
    coroutine: CoroutineFunction = function
    return coroutine


def _written(found: object) -> Any:
    """The function that somebody has written, and that is called in the end."""
    one: Any = found
    if isinstance(one, functools.partial):
        return _written(one.func)
    if isinstance(one, staticmethod) or inspect.ismethod(one):
        return _written(one.__func__)
    kind = type(found)
    if kind.__module__ == "builtins":
        return found
    return getattr(kind, "__call__", None)  # noqa: B004 (an object's own, not that of its class)


def _calling(found: Any, written: Any, name: str) -> CoroutineFunction:
    """A function that calls `found`, annotated and documented like the one that is written."""

    @functools.wraps(written)
    async def call(*args: object, **kwargs: object) -> object:
        return await found(*args, **kwargs)

    own_name = name.rpartition(".")[2]
    if own_name.isidentifier() and not keyword.iskeyword(own_name):
        # Celery compiles a function of this name.
        call.__name__ = call.__qualname__ = own_name
    vars(call)["__signature__"] = inspect.signature(found)
    return call


def _refusal(found: object, written: object) -> str:
    if is_task(found):
        return (
            f"{found!r} is a task already: decorate the function that is defined with async def, "
            "and only once."
        )
    if isinstance(found, classmethod):
        return (
            f"{found!r} cannot be a task, because nothing passes its class: make it a staticmethod, "
            "or a function of the module, with async def."
        )
    if inspect.isasyncgenfunction(written):
        return (
            f"{found!r} yields, and a task has one result: define it with async def and return, "
            "a list for example, or let another task be sent for each item."
        )
    if callable(written) and inspect.iscoroutinefunction(inspect.unwrap(written)):
        return (
            f"A decorator has put a plain function around the coroutine function {found!r}: "
            "define what the decorator returns with async def, or put the task's decorator below it."
        )
    return (
        f"A task of a coroutine function was asked for, and {found!r} is none: "
        "define it with async def, or use Celery's shared_task for a plain function."
    )
