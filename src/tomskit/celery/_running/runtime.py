"""AsyncRuntime: one event loop in a background thread for all coroutines of this process."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import Coroutine
from typing import Final, Never, TypeVar

from celery import Celery
from typing_extensions import override

from tomskit.celery._running.context import find_app
from tomskit.celery._running.event_loop import EventLoop, discard, run_loop
from tomskit.celery._running.steering import Limits
from tomskit.errors import EventLoopError, NotInitializedError

__all__ = ("AsyncRuntime",)

R = TypeVar("R")

logger: Final = logging.getLogger(__name__)


class _Process:
    """The event loop of this process, and a lock for changing it."""

    def __init__(self) -> None:
        self.event_loop: EventLoop | None = None
        self.lock = threading.RLock()


_process: Final = _Process()


class AsyncRuntime:
    """Runs coroutines from code that is not one, on one event loop per process.

    A worker initialises it when a process starts and closes it when that process stops. Elsewhere
    it starts by itself at the first `run`, for the current app, and ends with the interpreter.
    """

    @classmethod
    def init(cls, celery_app: Celery, /) -> None:
        """Start the loop and the app's resource providers, if they are not running yet.

        Raises:
            ProviderError: A resource provider did not start.
        """
        with _process.lock:
            current = _process.event_loop
            if current is not None and current.app is celery_app:
                return
            cls.shutdown()
            started = _LoopThread(celery_app)
            started.start()
            _process.event_loop = started

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
        current = _process.event_loop
        if current is None:
            current = cls._start_for_current_app(coro)
        return current.run(coro)

    @classmethod
    def shutdown(cls) -> None:
        """Cancel what still runs, close the resources and stop the loop."""
        with _process.lock:
            current, _process.event_loop = _process.event_loop, None
            if current is not None:
                current.stop()

    @classmethod
    def adopt(cls, event_loop: EventLoop) -> None:
        """Run coroutines on this loop, which runs already, instead of one of its own."""
        with _process.lock:
            cls.shutdown()
            _process.event_loop = event_loop

    @classmethod
    def enforce_limits(cls, defaults: Limits | None) -> None:
        """Enforce the time limits of tasks on the loop, for a pool that does not.

        Args:
            defaults: For tasks and calls that set none; None leaves all limits to the pool.
        """
        EventLoop.limits = defaults

    @classmethod
    def app(cls) -> Celery | None:
        """The app that the runtime was initialised for, if it was."""
        current = _process.event_loop
        return None if current is None else current.app

    @classmethod
    def hold(cls, celery_app: Celery, caller: object) -> EventLoop | None:
        """Let the runtime be that of this app, unless another app's coroutines run on it.

        It stays so until the caller lets the loop go.

        Returns:
            The loop; None if it is another app's.

        Raises:
            ProviderError: A resource provider did not start.
        """
        current = _process.event_loop
        if current is not None and current.app is celery_app and current.hold(caller):
            return current
        with _process.lock:
            current = _process.event_loop
            if current is not None and current.app is not celery_app and not current.give_way():
                return None
            cls.init(celery_app)
            current = _process.event_loop
            assert current is not None  # noqa: S101 (init has set it)
            current.hold(caller)
            return current

    @classmethod
    def _start_for_current_app(cls, coro: Coroutine[object, Never, object]) -> EventLoop:
        app = find_app()
        if app is None:
            discard(coro)
            raise NotInitializedError(
                "AsyncRuntime is not initialised and there is no Celery app to initialise it for. "
                "Make one before, app = AsyncCelery('proj', config=CeleryConfig()), "
                "or call AsyncRuntime.init(app)."
            )
        try:
            with _process.lock:
                if _process.event_loop is None:  # or another thread was faster
                    cls.init(app)
                current = _process.event_loop
        except BaseException:
            discard(coro)
            raise
        assert current is not None  # noqa: S101 (init has set it)
        return current


class _LoopThread(EventLoop):
    """An event loop that runs in a thread of its own, with an app's resources."""

    def __init__(self, app: Celery) -> None:
        super().__init__(app, asyncio.new_event_loop())
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="tomskit-runtime", daemon=True)

    def start(self) -> None:
        self._thread.start()
        try:
            self._wait(self.resources.start())
        except BaseException:
            self.loop.call_soon_threadsafe(self.inbox.close)
            self._close()
            raise
        logger.debug("AsyncRuntime started for %r", self.app)

    @override
    def stop(self) -> None:
        if self.owns_this_thread():
            raise EventLoopError(
                "AsyncRuntime.shutdown() was called from its own event loop, which it would have "
                "to wait for. Call it from another thread."
            )
        self._wait(self.release())
        self._close()
        logger.debug("AsyncRuntime stopped")

    @override
    def owns_this_thread(self) -> bool:
        return threading.get_ident() == self._thread.ident

    def _serve(self) -> None:
        # Shared tasks that a coroutine calls are this app's.
        self.app.set_current()
        asyncio.set_event_loop(self.loop)
        self.inbox.open()
        while not self._closing:
            # A task that stops the loop must not stop those of others.
            run_loop(self.loop)

    def _wait(self, coro: Coroutine[object, Never, R]) -> R:
        return asyncio.run_coroutine_threadsafe(coro, self.loop).result()

    def _close(self) -> None:
        self._closing = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


_inherited: Final[list[EventLoop]] = []


def _forget_after_fork() -> None:
    """A forked child has the parent's objects but not its thread: start anew at the next use.

    The parent's loop is kept alive so that no destructor closes connections that the parent uses.
    """
    _process.lock = threading.RLock()
    if _process.event_loop is not None:
        _inherited.append(_process.event_loop)
        _process.event_loop = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
atexit.register(AsyncRuntime.shutdown)
