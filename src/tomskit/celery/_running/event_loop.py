"""EventLoop: an event loop with an app's resources, on which other threads run coroutines."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from contextvars import copy_context
from typing import ClassVar, Final, Never, TypeVar

from celery import Celery
from celery.exceptions import WorkerShutdown, WorkerTerminate

from tomskit.celery._app import AsyncApp
from tomskit.celery._running.context import TaskIdentity
from tomskit.celery._running.execution import Cancellable, Execution, as_task
from tomskit.celery._running.guard import CLEANUP_SECONDS
from tomskit.celery._running.inbox import Inbox
from tomskit.celery._running.steering import Limits
from tomskit.celery._running.strays import watched
from tomskit.errors import EventLoopError, NotACoroutineFunctionError
from tomskit.redis import RedisConfig, RedisProvider
from tomskit.resources import Resources, background

__all__ = ("EventLoop", "discard", "loop_runs_here", "resources_of", "run_aside", "run_loop")

R = TypeVar("R")

logger: Final = logging.getLogger(__name__)


class EventLoop(ABC):
    """Runs coroutines for code that is not one, with the resources of an app."""

    limits: ClassVar[Limits | None] = None
    """Defaults of the time limits that are enforced here; None leaves all of them to the pool."""

    def __init__(self, app: Celery, loop: asyncio.AbstractEventLoop) -> None:
        self.app: Final = app
        self.loop: Final = loop
        self.resources: Final = resources_of(app)
        self.inbox: Final = Inbox(loop)
        self._running: set[Cancellable] = set()
        self._callers: set[object] = set()
        self._gives_way = False

    @abstractmethod
    def owns_this_thread(self) -> bool:
        """Whether the loop runs, or is to run, in the calling thread."""

    def hold(self, caller: object) -> bool:
        """Note who is about to run something here, until `let_go`: another app's loop does not take its place.

        Returns:
            Whether that has not happened already.
        """
        # First noted, then looked: who is to take its place does the opposite, at the same time.
        self._callers.add(caller)
        if self._gives_way:
            self._callers.discard(caller)
            return False
        return True

    def let_go(self, caller: object) -> None:
        """End what `hold` has begun."""
        self._callers.discard(caller)

    def give_way(self) -> bool:
        """Let nobody run anything here any more, unless somebody does; whether that is so."""
        self._gives_way = True
        if self._callers:
            self._gives_way = False
        return self._gives_way

    @abstractmethod
    def stop(self) -> None:
        """Cancel what still runs, close the resources and the loop."""

    def run(self, coro: Coroutine[object, Never, R]) -> R:
        """Run `coro` to its end, as the task that runs where this is called."""
        if not asyncio.iscoroutine(coro):
            raise NotACoroutineFunctionError(
                f"AsyncRuntime.run takes a coroutine, not {type(coro).__name__}: "
                "call the async function, AsyncRuntime.run(work(1))."
            )
        if self.owns_this_thread():
            return self.run_in_own_thread(coro)
        identity = TaskIdentity.current()
        if identity is not None and identity.request.is_eager and loop_runs_here():
            return run_aside(self.app, self.resources, identity, coro)
        execution = Execution(
            coro,
            loop=self.loop,
            inbox=self.inbox,
            resources=self.resources,
            running=self._running,
            identity=identity,
            limits=None if identity is None else self._limits_of(identity),
        )
        self._callers.add(execution)
        try:
            return execution.run()
        finally:
            self._callers.discard(execution)

    def run_in_own_thread(self, coro: Coroutine[object, Never, R]) -> R:
        """Run a coroutine for code that runs in the loop's own thread."""
        identity = TaskIdentity.current()
        if identity is not None and identity.request.is_eager and loop_runs_here():
            return run_aside(self.app, self.resources, identity, coro)
        discard(coro)
        raise EventLoopError(
            "AsyncRuntime.run was called from the event loop that it would have to wait for. "
            "Inside a coroutine await the coroutine itself, and of a task its function: "
            "await task.func(1)."
        )

    async def release(self) -> None:
        """Cancel what still runs and close the resources; on the loop."""
        # After a warm shutdown nothing runs any more; this is for a cold one, and for what tasks
        # have left in the background.
        self.inbox.close()
        # Before what they wait for in tasks of their own is cancelled.
        mine = [work for work in background if work.loop is self.loop]
        await asyncio.gather(*(work.finish() for work in mine))
        executions = tuple(self._running)
        for execution in executions:
            execution.cancel()
        rest = asyncio.all_tasks() - {asyncio.current_task()} - {work.task for work in mine}
        # Each is cancelled once: a second cancellation would interrupt its cleanup.
        for task in rest - {execution.task for execution in executions}:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=CLEANUP_SECONDS)
        await self.resources.stop()
        await self._close_generators()

    async def _close_generators(self) -> None:
        """Close what tasks have left of asynchronous generators, which run code of theirs."""
        closing = asyncio.ensure_future(self.loop.shutdown_asyncgens())
        _, waiting = await asyncio.wait([closing], timeout=CLEANUP_SECONDS)
        if waiting:
            logger.warning(
                "Asynchronous generators that tasks have not closed do not end within %g s, and are "
                "abandoned. Use contextlib.aclosing, or shorten what they do in their finally.",
                CLEANUP_SECONDS,
            )
            closing.cancel()

    def _limits_of(self, identity: TaskIdentity) -> Limits | None:
        request, task, default = identity.request, identity.task, self.limits
        if default is None or request.is_eager or request.called_directly:
            return None
        hard, soft = request.timelimit or (None, None)
        return Limits(
            soft=soft or task.soft_time_limit or default.soft,
            hard=hard or task.time_limit or default.hard,
        )


def run_aside(
    app: Celery,
    resources: Resources,
    identity: TaskIdentity | None,
    coro: Coroutine[object, Never, R],
) -> R:
    """Run a coroutine on a loop in a thread of its own, while another one must not be used.

    That of a coroutine which has called an eager task waits for it, as eager calls block; that of
    another app has other resources.
    """

    def work() -> R:
        app.set_current()
        return asyncio.run(as_task(identity, resources, coro))

    with concurrent.futures.ThreadPoolExecutor(1, "tomskit-eager") as thread:
        return thread.submit(copy_context().run, work).result()


def run_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop until somebody stops it, or until code that no task waits for raises SystemExit.

    asyncio lets that, and KeyboardInterrupt, end the loop. Here it would be the loop of all tasks.
    """
    try:
        with watched(loop):
            loop.run_forever()
    except (WorkerShutdown, WorkerTerminate):
        raise
    except (KeyboardInterrupt, SystemExit) as exc:
        logger.critical(
            "A callback or background coroutine raised %r in the event loop. Other tasks go on.",
            exc,
            exc_info=exc,
        )


def loop_runs_here() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def resources_of(app: Celery) -> Resources:
    """The providers of an AsyncCelery; for any other app those that the environment configures."""
    if isinstance(app, AsyncApp):
        return app.resources
    from tomskit.sqlalchemy import DatabaseConfig, DatabaseProvider

    return Resources([DatabaseProvider(DatabaseConfig()), RedisProvider(RedisConfig())])


def discard(coro: Coroutine[object, Never, object]) -> None:
    """Close a coroutine that will not be awaited, so that Python does not warn about it."""
    with contextlib.suppress(AttributeError):
        coro.close()
