"""Plain tasks that return a coroutine: a decorator has put a plain function around ``async def``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from celery import Task

from tomskit.errors import NotACoroutineFunctionError

__all__ = ("refuse_coroutines",)

P = ParamSpec("P")
R = TypeVar("R")


def refuse_coroutines(function: Callable[P, R], task: Task[..., Any]) -> Callable[P, R]:
    """The same function of a plain task, which fails where its result is a coroutine.

    Celery would not await it, and nothing of it would run. Whoever calls the task like a function gets it.

    Args:
        function: Of the task.
        task: The task.
    """

    @functools.wraps(function)
    def watched(*args: P.args, **kwargs: P.kwargs) -> R:
        value = function(*args, **kwargs)
        if inspect.iscoroutine(value) and not task.request.called_directly:
            value.close()
            raise NotACoroutineFunctionError(
                f"The task {task.name} is a plain function, and returned the coroutine "
                f"{value.__qualname__}, which Celery does not await: define the function with async def, "
                "or what a decorator puts around it, and use @async_shared_task or @app.task."
            )
        return value

    return watched
