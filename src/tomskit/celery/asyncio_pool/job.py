"""Job: a task in the pool, from its start to the report of its outcome."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from contextvars import Context
from signal import SIGUSR1
from typing import Final, Never, Protocol, TypeVar

from celery import Task
from celery.exceptions import SoftTimeLimitExceeded, Terminated
from celery.utils.log import get_logger
from typing_extensions import override

from tomskit.celery._internals.billiard import drop_tracebacks
from tomskit.celery._running.context import begin_execution
from tomskit.celery._running.greenlets import GreenletCoroutine, await_here
from tomskit.celery._running.guard import Guard
from tomskit.celery._running.places import GreenletPlace, place_of_task
from tomskit.celery._running.steering import (
    NO_LIMITS,
    Limits,
    SoftTimeLimit,
    Steered,
    as_celery_error,
)
from tomskit.celery._running.strays import lineage
from tomskit.celery.asyncio_pool.failures import Failures
from tomskit.celery.asyncio_pool.report import Report
from tomskit.resources import Resources

__all__ = ("CoroutineJob", "Ended", "Job", "PlainJob", "job_of", "name_in", "request_in")

R = TypeVar("R")

logger: Final = get_logger(__name__)

_TRACER_ARGS: Final = 6


def name_in(args: Sequence[object]) -> str:
    """The name of the task that a function of the pool runs, by its arguments."""
    first = args[0] if args else None
    return first.name if isinstance(first, Task) else str(first)


def request_in(args: Sequence[object]) -> object:
    """What the message says of the call; empty where the function is not Celery's tracer."""
    return args[2] if len(args) == _TRACER_ARGS else {}


class Job(ABC):
    """A task in the pool. There are thousands of them, so each keeps as little as possible.

    Attributes:
        report: Tells Celery what happens to the task.

    """

    __slots__ = ("__weakref__", "_args", "_tracer", "report")

    report: Report
    _tracer: Callable[..., object]
    _args: Sequence[object]

    @property
    def name(self) -> str:
        """Its name and id, for log lines."""
        name, *rest = self._args or ("",)
        # Functions of other packages get the task itself, and what they like.
        return f"{name}[{rest[0]}]" if rest and isinstance(name, str) else name_in(self._args)

    @abstractmethod
    def start(self, context: Context) -> None:
        """Begin, in the worker's turn, with these context variables."""

    @abstractmethod
    def terminate(self, signal: int | None = None) -> None:
        """End the task as soon as it can be; from any thread."""


class Ended(BaseException):
    """Unwinds the tracer of a task that was ended, so that it stores nothing."""


def job_of(context: Context) -> CoroutineJob | None:
    """The job whose code runs in this context, its children's included."""
    place = context.get(place_of_task)
    return place if isinstance(place, CoroutineJob) else None


class CoroutineJob(Job, GreenletPlace):
    """A task in the event loop: the tracer and the coroutine in a greenlet of their own.

    Args:
        tracer: Celery's function that runs the task.
        args: Its arguments, the first of which are the task's name and id.
        report: Tells Celery what happens to the task.
        loop: The event loop.
        limits: The time limits.
        failures: How many tasks fail at once.
    """

    __slots__ = (
        "_begun",
        "_context",
        "_depth",
        "_ending",
        "_failures",
        "_guard",
        "_limits",
        "_loop",
        "_steered",
        "_task",
    )

    def __init__(
        self,
        tracer: Callable[..., object],
        args: Sequence[object],
        report: Report,
        *,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        failures: Failures,
    ) -> None:
        self.report = report
        self._tracer = tracer
        self._args = args
        self._loop = loop
        self._failures = failures
        self._limits = limits
        self._begun: float | None = None
        self._context: Context | None = None
        self._guard = Guard(loop)
        self._task: asyncio.Task[None] | None = None
        # How many coroutines run within each other. The tracer around them is never interrupted.
        self._depth = 0
        self._steered: _Abandonable | None = None
        # Reports why a task was ended: a hard limit, or a termination.
        self._ending: Callable[[], None] | None = None

    @override
    def start(self, context: Context) -> None:
        self.report.told.on_accepted(self.report.pid, time.monotonic())
        self._begun = time.time()
        self._context = context
        coroutine = GreenletCoroutine(self.trace, owner=self)
        self._task = self._loop.create_task(coroutine, context=context)
        if self._limits is not NO_LIMITS:
            self._guard.enforce(self._limits, self)

    # -- in the greenlet

    @property
    @override
    def begun(self) -> float | None:
        return self._begun

    def trace(self) -> None:
        """Call the tracer and report the outcome."""
        place_of_task.set(self)
        begin_execution()
        self._report_tracer()
        self._guard.stop()
        # The context refers to this job. Breaking the cycle spares Python the search for it, which took a
        # fifth of a worker's time.
        self._task = self._context = None

    def _report_tracer(self) -> None:
        try:
            self._check_ended()
            if len(self._args) == _TRACER_ARGS:
                # Written out, the call stays in the same C frame of Python, and a waiting task has
                # 700 bytes less of the C stack.
                name, task_id, request, body, kind, encoding = self._args
                outcome = self._tracer(name, task_id, request, body, kind, encoding)
            else:
                outcome = self._tracer(*self._args)
        except Ended:
            if self._ending is not None:
                self._ending()
        except BaseException as exc:  # noqa: BLE001 (the worker decides what each means)
            self.report.failed(exc)
        else:
            self.report.returned(outcome)
            drop_tracebacks(outcome)
        finally:
            self._failures.ended(self)

    @override
    def run(self, coro: Coroutine[object, Never, R], resources: Resources) -> R:
        """Run a coroutine of this task to its end, in the scopes of the providers."""
        guard = self._guard
        steered = Steered(coro, guard)
        outer, self._steered = self._steered, steered
        self._depth += 1
        try:
            if self._ending is not None:
                raise Ended  # noqa: TRY301 (as an error of the coroutine)
            if (pending := guard.pending) is not None:
                # The interruption came before the coroutine started.
                guard.pending = None
                raise pending  # noqa: TRY301 (handled as what the coroutine raises)
            result = await_here(resources.scoped(steered))
        except BaseException as exc:  # noqa: BLE001 (whatever it is, it belongs to the tracer)
            raise self._error_of(exc)  # noqa: B904 (often it is the same one)
        finally:
            self._depth -= 1
            self._steered = outer
            if not steered.done:
                # One that could not start is closed, so that Python does not warn about it.
                steered.close()
        if self._ending is not None:
            raise Ended
        return result

    def _error_of(self, exc: BaseException) -> BaseException:
        if self._ending is not None:
            if isinstance(exc, Exception) and not isinstance(exc, SoftTimeLimitExceeded):
                logger.warning("%s raised while it was ended", self.name, exc_info=exc)
            return Ended()
        return as_celery_error(self._guard.raised(exc))

    def _check_ended(self) -> None:
        if self._ending is not None:
            raise Ended

    @override
    def check(self) -> None:
        # The tracer of a task that was ended stores and publishes nothing; its coroutine may, while
        # it cleans up.
        if not self._depth:
            self._check_ended()

    @override
    def fails(self) -> None:
        if self._depth or self._ending is not None or self._failures.admits(self):
            # What a coroutine calls directly may fail without an end of the task.
            return
        self._depth += 1
        try:
            await_here(self._failures.admit(self))
        except asyncio.CancelledError:
            # The task is ended, or has come to its soft limit too late.
            self._guard.take_pending()
        finally:
            self._depth -= 1

    @override
    def may_store(self) -> bool:
        # The worker stores how a task was ended, and that is to stay.
        self.check()
        return self._ending is None

    # -- in the loop

    @override
    def terminate(self, signal: int | None = None) -> None:
        # Celery reconnects in a thread, which may end tasks.
        if signal == SIGUSR1:
            self._loop.call_soon_threadsafe(self._on_usr1)
        else:
            self._loop.call_soon_threadsafe(
                self._end_with, lambda: self.report.failed(Terminated(signal))
            )

    def _on_usr1(self) -> None:
        # In a process of prefork this signal raises the same, and the task goes on if it catches it.
        if self._task is not None and self._ending is None and not self.report.is_over:
            self._guard.interrupt(SoftTimeLimit(), self)

    def _end_with(self, ending: Callable[[], None]) -> None:
        if self._task is None or self.report.is_over or self._ending is not None:
            # A job that waits for a slot: Celery terminates it again when it gets one.
            return
        self._ending = ending
        self._guard.end(self)

    # -- what the guard calls

    def cancel(self) -> None:
        """Cancel the coroutine at its await."""
        if self._depth and self._task is not None:
            self._task.cancel()

    def on_soft_limit(self, seconds: float) -> None:
        """Interrupt the coroutine, which may catch that."""
        if self._ending is None:
            self.report.soft_limit(seconds)
            self._guard.interrupt(SoftTimeLimit(seconds), self)

    def on_hard_limit(self, seconds: float) -> None:
        """End the task."""
        self._end_with(lambda: self.report.hard_limit(seconds))

    def on_abandoned(self) -> None:
        """Report the end; what the coroutine still does is ignored."""
        if self._steered is not None:
            self._steered.give_up()
        self.cancel()
        if self._ending is not None:
            self._ending()


class _Abandonable(Protocol):
    def give_up(self) -> None: ...


class PlainJob(Job):
    """A task that is a plain function, in a thread. Once it runs, nothing can end it."""

    __slots__ = ("_executor",)

    def __init__(
        self,
        tracer: Callable[..., object],
        args: Sequence[object],
        report: Report,
        *,
        executor: Executor,
    ) -> None:
        self.report = report
        self._tracer = tracer
        self._args = args
        self._executor = executor

    @override
    def start(self, context: Context) -> None:
        self.report.told.on_accepted(self.report.pid, time.monotonic())
        self._executor.submit(context.run, self._trace)

    def _trace(self) -> None:
        process = lineage.here
        try:
            try:
                outcome = self._tracer(*self._args)
            finally:
                if lineage.here is not process:
                    lineage.end()
        except BaseException as exc:  # noqa: BLE001 (the worker decides what each means)
            self.report.failed(exc)
        else:
            self.report.returned(outcome)

    @override
    def terminate(self, signal: int | None = None) -> None:
        logger.warning(
            "%s cannot be terminated: it is a plain function and runs in a thread", self.name
        )
