"""AsyncTaskRunner: a coroutine function in an event loop of its own."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Generic, Never, ParamSpec, TypeVar

from tomskit.celery._running.context import TaskIdentity, find_app
from tomskit.celery._running.event_loop import resources_of
from tomskit.celery._running.execution import as_task
from tomskit.errors import EventLoopError, NotACoroutineFunctionError, NotInitializedError
from tomskit.resources import Resources

__all__ = ("AsyncTaskRunner",)

P = ParamSpec("P")
R = TypeVar("R")


class AsyncTaskRunner(Generic[P, R]):
    """Runs one coroutine function with ``asyncio.run``, with resources of its own loop.

    Args:
        async_task: A coroutine function.
        use_db: Open a database session that belongs to the loop.
        use_redis: Let ``redis_client`` be used in the loop.

    Raises:
        NotACoroutineFunctionError: `async_task` is not a coroutine function.
    """

    def __init__(
        self,
        async_task: Callable[P, Coroutine[object, Never, R]],
        use_db: bool = True,
        use_redis: bool = False,
    ) -> None:
        if not inspect.iscoroutinefunction(async_task):
            raise NotACoroutineFunctionError(
                f"AsyncTaskRunner takes a coroutine function, not {async_task!r}: define it with "
                "async def, and of a decorated task pass task.func."
            )
        self._function = async_task
        self._use_db = use_db
        self._use_redis = use_redis

    def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, run its coroutine to the end and release everything it used.

        Raises:
            NotInitializedError: It is to use a database or redis, and there is no app that configures them.
            EventLoopError: An event loop runs in this thread already: ``await`` there.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise EventLoopError(
                "AsyncTaskRunner.run was called from a running event loop. "
                "Inside a coroutine await the function itself."
            )
        resources = self._resources()
        coro = self._function(*args, **kwargs)
        return asyncio.run(as_task(TaskIdentity.current(), resources, coro))

    def _resources(self) -> Resources:
        app = find_app()
        if app is None:
            if self._use_redis:
                raise _no_app("redis client", "AsyncCelery('proj', redis=RedisConfig())")
            if self._use_db:
                raise _no_app("database engine", "AsyncCelery('proj', database=DatabaseConfig())")
            return Resources([])
        unused = {"database": not self._use_db, "redis": not self._use_redis}
        return resources_of(app).only(without=[name for name, drop in unused.items() if drop])


def _no_app(what: str, mend: str) -> NotInitializedError:
    return NotInitializedError(
        f"There is no {what}: no AsyncCelery app exists in this process. "
        f"Make it before the runner: app = {mend}"
    )
