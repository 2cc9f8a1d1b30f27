"""Task classes of users: made into classes of asynchronous tasks."""

from __future__ import annotations

from typing import Any

from tomskit.celery._tasks.task import AsyncTask
from tomskit.errors import NotACoroutineFunctionError

__all__ = ("async_class", "is_async_class")


def async_class(base: object) -> type[AsyncTask[..., object]]:
    """The class of asynchronous tasks with this base.

    What the base overrides comes first, and its ``super()`` is AsyncTask.

    Args:
        base: A task class, or any class with methods for one.

    Raises:
        TypeError: The base is no class, or does not go together with AsyncTask.
        NotACoroutineFunctionError: It has a coroutine function where Celery calls a plain one.
    """
    if not isinstance(base, type):
        raise TypeError(
            f"base={base!r} is not a class: give a subclass of celery.Task or AsyncTask."
        )
    plain: type[AsyncTask[..., object]] = AsyncTask
    if base is plain:
        return plain
    given: type[object] = base
    bases: tuple[type[object], ...] = (given,) if is_async_class(given) else (given, plain)
    if issubclass(plain, given):
        # As of celery.Task, which may be given where the app has another class for its tasks.
        bases = (plain,)
    members: dict[str, object] = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "abstract": True,
    }
    try:
        made: Any = type(str(base.__name__), bases, members)
    except NotACoroutineFunctionError:
        raise
    except TypeError as exc:
        raise TypeError(
            f"The class {base.__qualname__} does not go together with AsyncTask ({exc}): "
            f"derive it from tomskit.celery.AsyncTask, in the place of Task."
        ) from exc
    task_class: type[AsyncTask[..., object]] = made
    return task_class


def is_async_class(base: type[object]) -> bool:
    """Whether a class is one of asynchronous tasks."""
    return issubclass(base, AsyncTask)
