"""One coroutine that runs on an event loop while a thread waits for it.

What the waiting thread is interrupted with reaches the coroutine at its await, time limits are
timers on the loop, and the coroutine never outlives its task.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Awaitable, Coroutine, Generator
from contextvars import copy_context
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, Never, Self, TypeVar, cast

from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from typing_extensions import override

from tomskit.celery._running.context import TaskIdentity, celery_context, task_id_context
from tomskit.celery._running.inbox import Inbox
from tomskit.errors import NotInitializedError
from tomskit.resources import Resources

if TYPE_CHECKING:
    from tomskit.celery._app import AsyncApp

__all__ = (
    "CLEANUP_SECONDS",
    "Execution",
    "Interruption",
    "Limits",
    "SoftTimeLimit",
    "Steered",
    "as_celery_error",
    "as_task",
)

R = TypeVar("R")

logger: Final = logging.getLogger(__name__)

CLEANUP_SECONDS: Final = 5.0
"""What a cancelled coroutine gets for its ``finally`` blocks before it is given up."""


async def as_task(
    identity: TaskIdentity | None, resources: Resources, coro: Coroutine[object, Never, R]
) -> R:
    """Await `coro` as the task `identity`, within the scopes of `resources`, on any loop."""
    token = None
    if identity is not None:
        token = identity.assume()
        # Not every runtime carries the context variables of its caller.
        task_id_context.set(identity.request.id)
        celery_context.set(cast("AsyncApp", identity.task.app))
    try:
        return await resources.run(coro)
    finally:
        if identity is not None and token is not None:
            identity.leave(token)
        # Does nothing to one that has run; keeps Python from warning about one that could not.
        coro.close()


class Limits(NamedTuple):
    """Time limits of a task in seconds; None is no limit."""

    soft: float | None
    hard: float | None


class SoftTimeLimit(SoftTimeLimitExceeded, asyncio.CancelledError):
    """The soft limit as it is raised at an await.

    It is a cancellation as well, so that ``TaskGroup``, ``asyncio.timeout`` and every library that
    cleans up when it is cancelled does so. Stored or pickled it is the plain exception.
    """

    @override
    def __reduce__(self) -> tuple[type[SoftTimeLimitExceeded], tuple[object, ...]]:
        return SoftTimeLimitExceeded, self.args


# Result backends store an exception's class by these two, and look it up by them.
SoftTimeLimit.__qualname__ = SoftTimeLimit.__name__ = SoftTimeLimitExceeded.__name__
SoftTimeLimit.__module__ = SoftTimeLimitExceeded.__module__


class Interruption:
    """What interrupts a coroutine; shared by the coroutines that run within each other.

    Attributes:
        pending: What the next cancellation is to be, at the await where it arrives.
        given_up: The coroutine is not run any further, whatever it does.
    """

    __slots__ = ("given_up", "pending")

    def __init__(self) -> None:
        self.pending: BaseException | None = None
        self.given_up: bool = False


class Steered(Awaitable[R]):
    """Awaits a coroutine and can raise something else than the cancellation at its await."""

    __slots__ = ("_coro", "_interruption", "done")

    def __init__(self, coro: Coroutine[object, Never, R], interruption: Interruption) -> None:
        self._coro = cast("Coroutine[object, object, R]", coro)
        self._interruption = interruption
        self.done: bool = False

    @override
    def __await__(self) -> Generator[object, object, R]:
        # It has all that `await` uses of a generator.
        return cast("Generator[object, object, R]", self)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> object:
        if self._interruption.given_up:
            raise asyncio.CancelledError
        try:
            return self._coro.send(None)
        except BaseException:
            self.done = True
            raise

    def send(self, value: object) -> object:  # noqa: ARG002 (a task sends nothing but None)
        """Go on after an await."""
        return self.__next__()

    def throw(self, exc: BaseException, *_: object) -> object:
        """Raise `exc` at the await, or what the interruption has in place of a cancellation."""
        interruption = self._interruption
        if interruption.given_up:
            raise exc
        if interruption.pending is not None and isinstance(exc, asyncio.CancelledError):
            exc, interruption.pending = interruption.pending, None
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        try:
            return self._coro.throw(exc)
        except BaseException:
            self.done = True
            raise

    def close(self) -> None:
        """Close the coroutine; does nothing to one that has ended."""
        self._coro.close()

    def give_up(self) -> None:
        """Run it no further, whatever it does."""
        self._interruption.given_up = True
        self.done = True
        try:
            self._coro.close()
        except (RuntimeError, ValueError):
            # ValueError: it runs just now, in a call that waits without an await.
            logger.warning("%r awaits even while it is being closed", self._coro)


def as_celery_error(error: BaseException) -> BaseException:
    """What Celery is told of how a coroutine has ended."""
    if isinstance(error, SoftTimeLimit):
        return SoftTimeLimitExceeded(*error.args).with_traceback(error.__traceback__)
    if isinstance(error, asyncio.CancelledError):
        # Celery's tracer lets a BaseException end the whole process.
        cancelled = concurrent.futures.CancelledError(
            "The coroutine was cancelled, or awaited something that was."
        )
        cancelled.__cause__ = error
        return cancelled
    return error


class Execution(Generic[R]):
    """Runs `coro` on `loop`, in the scopes of `resources` and as the task `identity`."""

    __slots__ = (
        "_begun",
        "_context",
        "_cut",
        "_error",
        "_finished",
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
        "_timers",
        "task",
    )

    def __init__(
        self,
        coro: Coroutine[object, Never, R],
        *,
        loop: asyncio.AbstractEventLoop,
        inbox: Inbox,
        resources: Resources,
        running: set[Execution[object]],
        identity: TaskIdentity | None,
        limits: Limits | None,
    ) -> None:
        self._cut = Interruption()
        self._steered = Steered(coro, self._cut)
        self._context = copy_context()
        self._loop = loop
        self._inbox = inbox
        self._resources = resources
        self._running = cast("set[Execution[R]]", running)
        self._identity = identity
        self._limits = limits
        # A bare lock costs 20 us less a run than the condition in a concurrent Future.
        self._ready = threading.Lock()
        self._ready.acquire()
        self._finished = False
        self._begun = False
        self.task: asyncio.Task[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._interruption: BaseException | None = None
        self._over_limit: TimeLimitExceeded | None = None
        self._result: R | None = None
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
            return cast("R", self._result)
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
            soft, hard = self._limits
            if soft is not None:
                self._timers.append(self._loop.call_later(soft, self._on_soft_limit, soft))
            if hard is not None:
                self._timers.append(self._loop.call_later(hard, self._on_hard_limit, hard))

    def cancel(self) -> None:
        """Cancel the coroutine."""
        if self.task is None or self._finished:
            return
        if self._begun:
            self.task.cancel()
        elif self._cut.pending is None:
            # A task that is cancelled before its first step never runs at all.
            self._cut.pending = asyncio.CancelledError()

    async def _main(self) -> None:
        self._begun = True
        identity = self._identity
        token = None if identity is None else identity.assume()
        try:
            if self._cut.pending is not None:
                raise self._cut.pending  # noqa: TRY301 (the coroutine has not started)
            self._result = await self._resources.scoped(self._steered)
        except BaseException as exc:  # noqa: BLE001 (whatever it is, it belongs to the caller)
            self._error = exc
            if self._cut.pending is not None and isinstance(exc, asyncio.CancelledError):
                # It was interrupted while a provider made it wait.
                self._error = self._cut.pending
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
        for timer in self._timers:
            timer.cancel()
        self._ready.release()

    def _interrupt(self, exc: BaseException) -> None:
        if self._finished or self._steered.done:
            return
        if isinstance(exc, SoftTimeLimitExceeded):
            self._cut.pending = SoftTimeLimit(*exc.args)
        else:
            # The process is to end: a coroutine that swallows its cancellation must not keep it.
            self._timers.append(self._loop.call_later(CLEANUP_SECONDS, self._give_up))
        self.start()
        self.cancel()

    def _on_soft_limit(self, seconds: float) -> None:
        logger.warning("Soft time limit (%ss) exceeded for %s", seconds, self._name())
        self._interrupt(SoftTimeLimitExceeded(seconds))

    def _on_hard_limit(self, seconds: float) -> None:
        logger.error("Hard time limit (%ss) exceeded for %s", seconds, self._name())
        self._over_limit = TimeLimitExceeded(seconds)
        self._cut.pending = None
        self.cancel()
        self._timers.append(self._loop.call_later(CLEANUP_SECONDS, self._give_up))

    def _give_up(self) -> None:
        logger.critical(
            "%s did not end within %ss of its cancellation and is abandoned",
            self._name(),
            CLEANUP_SECONDS,
        )
        self._steered.give_up()
        self.cancel()
        self._finish()

    def _name(self) -> str:
        if self._identity is None:
            return "a coroutine"
        return f"{self._identity.task.name}[{self._identity.request.id}]"
