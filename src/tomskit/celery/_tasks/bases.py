"""Task classes of users: made into classes of asynchronous tasks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

from celery import Task

from tomskit.celery._tasks.contained import ContainedTask
from tomskit.celery._tasks.task import AsyncTask
from tomskit.celery._values.parameters import Arguments
from tomskit.errors import NotACoroutineFunctionError

__all__ = ("async_class", "is_async_class")

_CALLED: Final = ("__call__", "apply", "apply_async", "delay", "retry")
"""Methods that Celery calls and does not await."""

_SENDING: Final = ("apply_async", "delay")


def async_class(base: object) -> type[AsyncTask[..., object]]:
    """The class of asynchronous tasks with this base.

    What the base overrides comes first, and its ``super()`` is AsyncTask.

    Args:
        base: A task class, or any class with methods for one.

    Raises:
        TypeError: The base is no class, does not go together with AsyncTask, or has a coroutine
            function where Celery calls a plain one.
    """
    if not isinstance(base, type):
        raise TypeError(f"base={base!r} is no class: give a subclass of celery.Task or AsyncTask.")
    for name in _CALLED:
        if inspect.iscoroutinefunction(getattr(base, name, None)):
            raise NotACoroutineFunctionError(
                f"{base.__qualname__}.{name} is async def, and Celery does not await it: define it "
                "with def. The hooks (before_start, on_success, on_retry, on_failure, after_return) "
                "may be async def."
            )
    plain: type[AsyncTask[..., object]] = AsyncTask
    if base is plain:
        return plain
    given: type[object] = base
    bases: tuple[type[object], ...] = (given,) if is_async_class(given) else (given, plain)
    members: dict[str, object] = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "abstract": True,
        # It may wait for a server of its own.
        "_tomskit_sends_itself": any(_overrides(given, name) for name in _SENDING),
    }
    try:
        made: Any = type(str(base.__name__), bases, members)
    except TypeError as exc:
        raise TypeError(
            f"The class {base.__qualname__} does not go together with AsyncTask ({exc}): "
            f"derive it from tomskit.celery.AsyncTask, in the place of Task."
        ) from exc
    if _overrides(given, "apply_async"):
        made.apply_async = _sending_wire_forms(made)
    task_class: type[AsyncTask[..., object]] = made
    return task_class


def is_async_class(base: type[object]) -> bool:
    """Whether a class is one of asynchronous tasks."""
    return issubclass(base, AsyncTask)


def _overrides(base: type[object], name: str) -> bool:
    for one in base.__mro__:
        if name in vars(one):
            return one not in {Task, ContainedTask, AsyncTask}
    return False


def _sending_wire_forms(made: type[Any]) -> object:
    """``apply_async``, whose override in a base gets what is sent.

    The hooks in the worker get the same, and bases find by it what belongs together, a lock for
    example.
    """

    def apply_async(
        self: Any,
        args: Sequence[object] | None = None,
        kwargs: Mapping[str, object] | None = None,
        *rest: object,
        **options: object,
    ) -> object:
        wire = self._to_wire(args, kwargs)
        return _apply_async(super(made, self), wire, rest, options)

    return apply_async


def _apply_async(
    above: Any, wire: Arguments, rest: Sequence[object], options: Mapping[str, object]
) -> object:
    return above.apply_async(*wire, *rest, **options)
