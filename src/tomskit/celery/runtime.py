"""AsyncRuntime: one event loop in a background thread for all coroutines of this process."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import logging
import os
import threading
from collections.abc import Coroutine
from contextvars import copy_context
from typing import ClassVar, Final, Never, TypeVar

from celery import Celery

from tomskit.celery.context import TaskIdentity, find_app
from tomskit.celery.execution import CLEANUP_SECONDS, Execution, Limits, as_task
from tomskit.celery.inbox import Inbox
from tomskit.errors import EventLoopError, NotACoroutineFunctionError, NotInitializedError
from tomskit.redis import RedisConfig, RedisProvider
from tomskit.resources import Resources
from tomskit.sqlalchemy import DatabaseConfig, DatabaseProvider

__all__ = ("AsyncRuntime",)

R = TypeVar("R")

logger: Final = logging.getLogger(__name__)


class AsyncRuntime:
    """Runs coroutines from code that is not one, on one event loop per process.

    A worker initialises it when a process starts and closes it when that process stops. Elsewhere
    it starts by itself at the first `run`, for the current app, and ends with the interpreter.
    """

    _current: ClassVar[_LoopThread | None] = None
    _lock: ClassVar[threading.RLock] = threading.RLock()
    _limits: ClassVar[Limits | None] = None

    @classmethod
    def init(cls, celery_app: Celery, /) -> None:
        """Start the loop and the app's resource providers, if they are not running yet.

        Raises:
            ProviderError: A resource provider did not start.
        """
        with AsyncRuntime._lock:
            current = AsyncRuntime._current
            if current is not None and current.app is celery_app:
                return
            cls.shutdown()
            started = _LoopThread(celery_app)
            started.start()
            AsyncRuntime._current = started

    @classmethod
    def run(cls, coro: Coroutine[object, Never, R], /) -> R:
        """Run `coro` to its end and return its result, or raise what it raised.

        May be called from any thread, by many at once. Each run has a database session of its own
        and the caller's context variables; in a task, ``self.request``, ``self.retry()`` and
        ``celery.current_task`` are the task's. Under the solo and threads pools the time limits
        of the running task are counted from here.

        Raises:
            NotInitializedError: There is no app to initialise the runtime for.
            EventLoopError: Called from the loop that it would have to wait for: ``await`` there.
            NotACoroutineFunctionError: `coro` is not a coroutine.
            SoftTimeLimitExceeded: The soft limit passed and `coro` did not catch it.
            TimeLimitExceeded: The hard limit passed (solo and threads pools).
            concurrent.futures.CancelledError: `coro` was cancelled.
        """
        current = AsyncRuntime._current
        if current is None:
            current = cls._start_for_current_app(coro)
        return current.run(coro)

    @classmethod
    def shutdown(cls) -> None:
        """Cancel what still runs, close the resources and stop the loop."""
        with AsyncRuntime._lock:
            current, AsyncRuntime._current = AsyncRuntime._current, None
            if current is not None:
                current.stop()

    @classmethod
    def enforce_limits(cls, defaults: Limits | None) -> None:
        """Enforce the time limits of tasks on the loop, for a pool that does not.

        Args:
            defaults: For tasks and calls that set none; None leaves all limits to the pool.
        """
        AsyncRuntime._limits = defaults

    @classmethod
    def app(cls) -> Celery | None:
        """The app that the runtime was initialised for, if it was."""
        current = AsyncRuntime._current
        return None if current is None else current.app

    @classmethod
    def _start_for_current_app(cls, coro: Coroutine[object, Never, object]) -> _LoopThread:
        app = find_app()
        if app is None:
            _discard(coro)
            raise NotInitializedError(
                "AsyncRuntime is not initialised and there is no Celery app to initialise it for. "
                "Make one before, app = AsyncCelery('proj', config=CeleryConfig()), "
                "or call AsyncRuntime.init(app)."
            )
        try:
            with AsyncRuntime._lock:
                cls.init(app)
                current = AsyncRuntime._current
        except BaseException:
            _discard(coro)
            raise
        assert current is not None  # noqa: S101 (init has set it)
        return current


class _LoopThread:
    """An event loop that runs in a thread of its own, with an app's resources."""

    def __init__(self, app: Celery) -> None:
        self.app: Final = app
        self._resources = resources_of(app)
        self._loop = asyncio.new_event_loop()
        self._inbox = Inbox(self._loop)
        self._thread = threading.Thread(target=self._serve, name="tomskit-runtime", daemon=True)
        self._running: set[Execution[object]] = set()

    def start(self) -> None:
        self._thread.start()
        try:
            self._wait(self._resources.start())
        except BaseException:
            self._loop.call_soon_threadsafe(self._inbox.close)
            self._close()
            raise
        logger.debug("AsyncRuntime started for %r", self.app)

    def stop(self) -> None:
        if self.owns_this_thread():
            raise EventLoopError(
                "AsyncRuntime.shutdown() was called from its own event loop, which it would have "
                "to wait for. Call it from another thread."
            )
        self._wait(self._release())
        self._close()
        logger.debug("AsyncRuntime stopped")

    def run(self, coro: Coroutine[object, Never, R]) -> R:
        if not asyncio.iscoroutine(coro):
            raise NotACoroutineFunctionError(
                f"AsyncRuntime.run takes a coroutine, not {type(coro).__name__}: "
                "call the async function, AsyncRuntime.run(work(1))."
            )
        identity = TaskIdentity.current()
        if identity is not None and identity.request.is_eager and _loop_runs_here():
            return self._run_aside(identity, coro)
        if self.owns_this_thread():
            _discard(coro)
            raise EventLoopError(
                "AsyncRuntime.run was called from the event loop that it would have to wait for. "
                "Inside a coroutine await the coroutine itself, and of a task its function: "
                "await task.func(1)."
            )
        return Execution(
            coro,
            loop=self._loop,
            inbox=self._inbox,
            resources=self._resources,
            running=self._running,
            identity=identity,
            limits=None if identity is None else _limits_of(identity),
        ).run()

    def owns_this_thread(self) -> bool:
        return threading.get_ident() == self._thread.ident

    def _run_aside(self, identity: TaskIdentity, coro: Coroutine[object, Never, R]) -> R:
        """Run an eager task that a coroutine has called, while that coroutine waits.

        Eager calls block, and the loop of the calling coroutine cannot run the called one
        meanwhile, so that gets a loop in a thread of its own.
        """

        def work() -> R:
            self.app.set_current()
            return asyncio.run(as_task(identity, self._resources, coro))

        with concurrent.futures.ThreadPoolExecutor(1, "tomskit-eager") as thread:
            return thread.submit(copy_context().run, work).result()

    def _serve(self) -> None:
        # Shared tasks that a coroutine calls are this app's.
        self.app.set_current()
        asyncio.set_event_loop(self._loop)
        self._inbox.open()
        self._loop.run_forever()

    def _wait(self, coro: Coroutine[object, Never, R]) -> R:
        return asyncio.run_coroutine_threadsafe(coro, self._loop).result()

    async def _release(self) -> None:
        # After a warm shutdown nothing runs any more; this is for a cold one, and for what tasks
        # have left in the background.
        self._inbox.close()
        executions = tuple(self._running)
        for execution in executions:
            execution.cancel()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        # Each is cancelled once: a second time would cut short what it does to clean up.
        for task in rest - {execution.task for execution in executions}:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=CLEANUP_SECONDS)
        await self._resources.stop()
        await self._loop.shutdown_asyncgens()

    def _close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _limits_of(identity: TaskIdentity) -> Limits | None:
    request, task, default = identity.request, identity.task, AsyncRuntime._limits  # noqa: SLF001
    if default is None or request.is_eager or request.called_directly:
        return None
    hard, soft = request.timelimit or (None, None)
    return Limits(
        soft=soft or task.soft_time_limit or default.soft,
        hard=hard or task.time_limit or default.hard,
    )


def _loop_runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def resources_of(app: Celery) -> Resources:
    """The providers of an AsyncCelery; for any other app those that the environment configures."""
    resources: object = getattr(app, "resources", None)
    if isinstance(resources, Resources):
        return resources
    return Resources([DatabaseProvider(DatabaseConfig()), RedisProvider(RedisConfig())])


def _discard(coro: Coroutine[object, Never, object]) -> None:
    """Close a coroutine that will not be awaited, so that Python does not warn about it."""
    with contextlib.suppress(AttributeError):
        coro.close()


_inherited: Final[list[_LoopThread]] = []


def _forget_after_fork() -> None:
    """A forked child has the parent's objects but not its thread: start anew at the next use.

    The parent's loop is kept alive so that no destructor closes connections that the parent uses.
    """
    AsyncRuntime._lock = threading.RLock()  # noqa: SLF001
    if AsyncRuntime._current is not None:  # noqa: SLF001
        _inherited.append(AsyncRuntime._current)  # noqa: SLF001
        AsyncRuntime._current = None  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
atexit.register(AsyncRuntime.shutdown)
