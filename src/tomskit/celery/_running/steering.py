"""Steered: a coroutine in which a cancellation can be turned into another exception at its await."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections.abc import Coroutine, Generator
from typing import Any, Final, NamedTuple, Never, Protocol, TypeVar

from celery.exceptions import SoftTimeLimitExceeded
from typing_extensions import override

from tomskit.celery._internals.python import leave_out_others
from tomskit.celery._running.strays import lineage
from tomskit.errors import TaskExitError
from tomskit.showing import shown

__all__ = (
    "NO_LIMITS",
    "Interruption",
    "Limits",
    "SoftTimeLimit",
    "Steered",
    "as_celery_error",
    "exit_error",
)

R = TypeVar("R")

logger: Final = logging.getLogger(__name__)


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


NO_LIMITS: Final = Limits(None, None)
"""The limits of most tasks."""


class Interruption(Protocol):
    """What may interrupt a coroutine; shared by the coroutines that run within each other.

    Attributes:
        pending: What the next cancellation is to be, at the await where it arrives.
        given_up: The coroutine is not run any further, whatever it does.
    """

    pending: BaseException | None
    given_up: bool


class Steered(Generator[object, object, R]):
    """Awaits a coroutine and can turn a cancellation at its await into another exception."""

    __slots__ = ("_coro", "_interruption", "done")

    def __init__(self, coro: Coroutine[object, Never, R], interruption: Interruption) -> None:
        # Any, because it is sent None: an async function says Never, as it is never sent a value.
        self._coro: Coroutine[object, Any, R] = coro
        self._interruption = interruption
        self.done: bool = False

    def __await__(self) -> Generator[object, object, R]:
        return self

    @override
    def __next__(self) -> object:
        if self._interruption.given_up:
            raise asyncio.CancelledError
        process = lineage.here
        try:
            return self._coro.send(None)
        except BaseException:
            self.done = True
            raise
        finally:
            if lineage.here is not process:
                lineage.end()

    @override
    def send(self, value: object) -> object:
        """Resume the coroutine after an await; a task sends nothing but None."""
        return self.__next__()

    @override
    def throw(self, exc: BaseException, *_: object) -> object:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        """Raise `exc` at the await, or, in place of a cancellation, the pending exception."""
        interruption = self._interruption
        if interruption.given_up:
            raise exc
        if interruption.pending is not None and isinstance(exc, asyncio.CancelledError):
            exc, interruption.pending = interruption.pending, None
            _uncancel()
        process = lineage.here
        try:
            return self._coro.throw(exc)
        except BaseException:
            self.done = True
            raise
        finally:
            if lineage.here is not process:
                lineage.end()
            # Its traceback holds this frame: no cycle may keep the task's data alive.
            del exc

    @override
    def close(self) -> None:
        """Close the coroutine; does nothing to one that has ended."""
        if not self.done:
            self._coro.close()

    def give_up(self) -> None:
        """Run it no further, whatever it does."""
        self._interruption.given_up = True
        self.done = True
        try:
            self._coro.close()
        except (RuntimeError, ValueError):
            # ValueError: it is running, in a plain call that waits without an await.
            logger.warning("%r ignored GeneratorExit", self._coro)


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


def as_celery_error(error: BaseException) -> BaseException:
    """The error that Celery gets for what a coroutine raised."""
    error = _alone(error)
    leave_out_others(error)
    if isinstance(error, SoftTimeLimit):
        return SoftTimeLimitExceeded(*error.args).with_traceback(error.__traceback__)
    if isinstance(error, asyncio.CancelledError):
        # Celery's tracer lets a BaseException end the whole process.
        cancelled = concurrent.futures.CancelledError(
            "The coroutine was cancelled, or awaited something that was."
        )
        cancelled.__cause__ = error
        return cancelled
    return error if isinstance(error, Exception) else exit_error(error)


def _alone(error: BaseException) -> BaseException:
    """The soft limit that a group consists of; Python 3.11's TaskGroup puts it into one."""
    inner = error
    while len(inside := _exceptions_of(inner)) == 1:
        [inner] = inside
    return inner if isinstance(inner, SoftTimeLimit) else error


def _exceptions_of(error: BaseException) -> tuple[BaseException, ...]:
    inside: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    return inside if isinstance(error, BaseExceptionGroup) else ()


def exit_error(error: BaseException) -> TaskExitError:
    """The error of a task that has raised `error`, which is not an Exception.

    Celery's tracer lets such a thing through, to end the process. Other tasks run in it.
    """
    failure = TaskExitError(f"The task raised {shown(error)}")
    failure.__cause__ = error
    return failure
