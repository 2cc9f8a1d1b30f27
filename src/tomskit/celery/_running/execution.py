"""One coroutine that runs on an event loop while a thread waits for it.

An exception that interrupts the waiting thread is raised at the coroutine's await, time limits are
timers on the loop, and the coroutine never outlives its task.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Final, Generic, Never, Protocol, TypeVar

from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

from tomskit.celery._app import AsyncApp
from tomskit.celery._running.context import TaskIdentity, celery_context, task_id_context
from tomskit.celery._running.guard import Guard
from tomskit.celery._running.inbox import Inbox
from tomskit.celery._running.steering import (
    Limits,
    SoftTimeLimit,
    Steered,
    as_celery_error,
)
from tomskit.errors import NotInitializedError
from tomskit.resources import Resources

__all__ = ("Cancellable", "Execution", "as_task")

R = TypeVar("R")

logger: Final = logging.getLogger(__name__)


async def as_task(
    identity: TaskIdentity | None, resources: Resources, coro: Coroutine[object, Never, R]
) -> R:
    """Await `coro` as the task `identity`, within the scopes of `resources`, on any loop."""
    token = None
    if identity is not None:
        token = identity.assume()
        # Not every runtime carries the context variables of its caller.
        task_id_context.set(identity.request.id)
        app = identity.task.app
        celery_context.set(app if isinstance(app, AsyncApp) else None)
    try:
        return await resources.run(coro)
    finally:
        if identity is not None and token is not None:
            identity.leave(token)
        # Does nothing to one that has run; keeps Python from warning about one that could not.
        coro.close()


class Cancellable(Protocol):
    """An execution, as its event loop knows it."""

    task: asyncio.Task[None] | None

    def cancel(self) -> None:
        """Cancel the coroutine."""


class Execution(Generic[R]):
    """Runs `coro` on `loop`, in the scopes of `resources` and as the task `identity`."""

    __slots__ = (
        "_begun",
        "_context",
        "_error",
        "_finished",
        "_guard",
        "_identity",
        "_inbox",
        "_interruption",
        "_limits",
        "_loop",
        "_over_limit",
        "_ready",
        "_resources",
        "_result",
        "_running",
        "_steered",
        "task",
    )

    def __init__(
        self,
        coro: Coroutine[object, Never, R],
        *,
        loop: asyncio.AbstractEventLoop,
        inbox: Inbox,
        resources: Resources,
        running: set[Cancellable],
        identity: TaskIdentity | None,
        limits: Limits | None,
    ) -> None:
        self._guard = Guard(loop)
        self._steered = Steered(coro, self._guard)
        self._context = copy_context()
        self._loop = loop
        self._inbox = inbox
        self._resources = resources
        self._running = running
        self._identity = identity
        self._limits = limits
        # A bare lock costs 20 us less a run than the condition in a concurrent Future.
        self._ready = threading.Lock()
        self._ready.acquire()
        self._finished = False
        self._begun = False
        self.task: asyncio.Task[None] | None = None
        self._interruption: BaseException | None = None
        self._over_limit: TimeLimitExceeded | None = None
        self._result: tuple[R] | None = None
        self._error: BaseException | None = None

    def run(self) -> R:
        """Start the coroutine and wait for its outcome; called from any other thread."""
        submitted = False
        while not self._finished:
            try:
                if not submitted:
                    submitted = True
                    if not self._inbox.put(self):
                        self._refuse()
                self._ready.acquire()
            except BaseException as exc:  # noqa: BLE001 (a signal handler may raise anything)
                # The thread waits on: the coroutine's outcome is the task's outcome.
                self._interruption = exc
                self._loop.call_soon_threadsafe(self._interrupt, exc)
        return self._outcome()

    def _outcome(self) -> R:
        error, self._error = self._error, None
        interruption, self._interruption = self._interruption, None
        try:
            if self._over_limit is not None:
                raise self._over_limit
            if interruption is not None and not isinstance(interruption, SoftTimeLimitExceeded):
                raise interruption
            if error is not None:
                raise as_celery_error(error)
            assert self._result is not None  # noqa: S101 (it has ended, and has not raised)
            return self._result[0]
        finally:
            # The exception's traceback holds this frame: no cycle may keep the task's data alive.
            del error, interruption, self

    def _refuse(self) -> None:
        self._steered.close()
        self._error = NotInitializedError(
            "AsyncRuntime was shut down before the coroutine could start."
        )
        self._finish()

    # -- on the loop's thread

    def start(self) -> None:
        """Start the coroutine, unless an interruption has done so already."""
        if self.task is not None:
            return
        self._running.add(self)
        self.task = self._loop.create_task(self._main(), context=self._context)
        if self._limits is not None:
            self._guard.enforce(self._limits, self)

    def cancel(self) -> None:
        """Cancel the coroutine."""
        if self.task is None or self._finished:
            return
        if self._begun:
            self.task.cancel()
        elif self._guard.pending is None:
            # A task that is cancelled before its first step never runs at all.
            self._guard.pending = asyncio.CancelledError()

    async def _main(self) -> None:
        self._begun = True
        identity = self._identity
        token = None if identity is None else identity.assume()
        try:
            if (pending := self._guard.pending) is not None:
                raise pending  # noqa: TRY301 (the coroutine has not started)
            self._result = (await self._resources.scoped(self._steered),)
        except BaseException as exc:  # noqa: BLE001 (whatever it is, it belongs to the caller)
            self._error = self._guard.raised(exc)
            # One that could not start is closed, so that Python does not warn about it.
            self._steered.close()
        if identity is not None and token is not None:
            identity.leave(token)
        self._finish()

    def _finish(self) -> None:
        if self._finished:
            return
        self._finished = True
        self._running.discard(self)
        self._guard.stop()
        self._ready.release()

    def _interrupt(self, exc: BaseException) -> None:
        if self._finished or self._steered.done:
            return
        self.start()
        if isinstance(exc, SoftTimeLimitExceeded):
            self._guard.interrupt(SoftTimeLimit(*exc.args), self)
        else:
            # The process is to end: a coroutine that swallows its cancellation must not keep it.
            self._guard.end(self)

    # -- what the guard calls

    @property
    def name(self) -> str:
        """The task's name and id, for log lines."""
        if self._identity is None:
            return "a coroutine"
        return f"{self._identity.task.name}[{self._identity.request.id}]"

    def _log_limit(self, level: int, kind: str, seconds: float) -> None:
        if self._identity is None:
            logger.log(level, "%s time limit (%ss) exceeded for %s", kind, seconds, self.name)
            return
        # As Celery writes it; a worker's lines show the id in a place of its own.
        task, request = self._identity.task, self._identity.request
        logger.log(
            level, "%s time limit (%ss) exceeded for %s[%s]", kind, seconds, task.name, request.id
        )

    def on_soft_limit(self, seconds: float) -> None:
        """Interrupt the coroutine, which may catch that."""
        try:
            self._log_limit(logging.WARNING, "Soft", seconds)
        finally:
            # Also where a handler of the application's fails.
            self._interrupt(SoftTimeLimitExceeded(seconds))

    def on_hard_limit(self, seconds: float) -> None:
        """End the coroutine."""
        self._over_limit = TimeLimitExceeded(seconds)
        try:
            self._log_limit(logging.ERROR, "Hard", seconds)
        finally:
            self._guard.end(self)

    def on_abandoned(self) -> None:
        """The thread waits no longer."""
        self._steered.give_up()
        self.cancel()
        self._finish()
