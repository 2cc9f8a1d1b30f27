"""Job: a task in the pool, from its start to what Celery is told of its end."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from contextvars import Context, ContextVar
from functools import partial
from typing import Final, Never, Protocol, TypeVar, cast

from billiard.einfo import ExceptionInfo
from celery.exceptions import SoftTimeLimitExceeded, Terminated, WorkerLostError
from celery.utils.log import get_logger
from typing_extensions import override

from tomskit.celery._running.context import begin_execution
from tomskit.celery._running.execution import (
    CLEANUP_SECONDS,
    Interruption,
    Limits,
    SoftTimeLimit,
    Steered,
    as_celery_error,
)
from tomskit.celery._running.greenlets import GreenletCoroutine, await_here
from tomskit.resources import Resources

__all__ = ("CoroutineJob", "Job", "PlainJob", "Report", "Revocable", "job_of")

R = TypeVar("R")

logger: Final = get_logger(__name__)

_TRACER_ARGS: Final = 6


class Revocable(Protocol):
    """``celery.worker.request.Request``, as far as it is needed here."""

    def revoked(self) -> bool:
        """Whether it was revoked or has expired. If so, it acknowledges and announces that."""
        ...


class Report:
    """What Celery wants to be told of a task, told in the worker's turn and in order.

    Attributes:
        pid: The number that Celery knows the task by.

    Args:
        pid: This number.
        tell: Has a function called in the worker's next turn.
        ended: Called with the number after Celery was told of the end.
        request: What Celery knows of the task.
        accepted: Called with the job's number and the monotonic time of its start.
        returned: Called with what the tracer has returned.
        failed: Called with the error when it has not returned.
        timed_out: Called with whether it was the soft limit, and its seconds.
    """

    __slots__ = (
        "_ended",
        "_failed",
        "_request",
        "_returned",
        "_tell",
        "_timed_out",
        "accepted",
        "is_over",
        "pid",
    )

    def __init__(
        self,
        pid: int,
        tell: Callable[[Callable[[], object]], None],
        ended: Callable[[int], None],
        *,
        request: Revocable | None,
        accepted: Callable[[int, float], object],
        returned: Callable[[object], object],
        failed: Callable[[ExceptionInfo], object],
        timed_out: Callable[[bool, float], object],
    ) -> None:
        self.pid: Final = pid
        self.accepted: Callable[[int, float], object] = accepted
        self.is_over: bool = False
        self._tell = tell
        self._ended = ended
        self._request = request
        self._returned = returned
        self._failed = failed
        self._timed_out = timed_out

    def is_revoked(self) -> bool:
        """Whether the task is not to be run any more; then Celery has stored and told that."""
        return self._request is not None and self._request.revoked()

    def soft_limit(self, seconds: float) -> None:
        """The soft time limit has passed, and the task goes on."""
        if not self.is_over:
            timed_out = self._timed_out
            self._tell(lambda: timed_out(True, seconds))

    def hard_limit(self, seconds: float) -> None:
        """The hard time limit has ended the task."""
        timed_out = self._timed_out
        self._end(lambda: timed_out(False, seconds))

    def returned(self, outcome: object) -> None:
        """The tracer has returned."""
        returned = self._returned
        self._end(lambda: returned(outcome))

    def failed(self, error: BaseException) -> None:
        """The tracer has raised, or the task was terminated."""
        failed = self._failed
        info = _info_of(error)
        self._end(lambda: failed(info))

    def _end(self, told: Callable[[], object]) -> None:
        # What is heard of an abandoned task later is no news.
        if not self.is_over:
            self.is_over = True
            self._tell(told)
            self._tell(partial(self._ended, self.pid))


def _info_of(error: BaseException) -> ExceptionInfo:
    if not isinstance(error, Exception):
        # Under prefork such a thing ends the process. Here there are others in it.
        lost = WorkerLostError(f"The task raised {error!r}")
        lost.__cause__ = error
        error = lost
    try:
        raise error  # noqa: TRY301 (Celery wants a traceback)
    except Exception:  # noqa: BLE001 (it is any)
        return ExceptionInfo()


class Job(ABC):
    """A task in the pool. There are thousands of them, so each has little of its own.

    Attributes:
        report: What Celery is told.

    Args:
        tracer: Celery's, which runs the task.
        args: Its arguments, the first of which are the task's name and id.
        report: What Celery is told.
    """

    __slots__ = ("__weakref__", "_args", "_tracer", "report")

    def __init__(
        self, tracer: Callable[..., object], args: Sequence[object], report: Report
    ) -> None:
        self.report: Final = report
        self._tracer: Final = tracer
        self._args: Final = args

    @property
    def pid(self) -> int:
        """The number that Celery knows it by."""
        return self.report.pid

    @property
    def name(self) -> str:
        """Its name and id, for log lines."""
        return f"{self._args[0]}[{self._args[1]}]"

    def start(self, context: Context) -> None:
        """Begin, in the worker's turn, with these context variables."""
        self.report.accepted(self.report.pid, time.monotonic())
        self._start(context)

    @abstractmethod
    def _start(self, context: Context) -> None: ...

    @abstractmethod
    def terminate(self, signal: int | None = None) -> None:
        """End the task as soon as it can be; from any thread."""


class _Ended(BaseException):
    """Unwinds the tracer of a task that was ended, so that it stores nothing."""


_current: Final[ContextVar[CoroutineJob | None]] = ContextVar("tomskit_job", default=None)


def job_of(context: Context) -> CoroutineJob | None:
    """The job whose code runs in this context, its children's included."""
    return context.get(_current)


def _drop_traceback(outcome: object) -> None:
    """Take the traceback from the exception of a failed task; its text has been stored.

    Through it the frames of Celery's tracer hold the exception, and that holds them: a cycle of 4500
    objects, most of them billiard's.
    """
    if isinstance(outcome, tuple):
        for part in cast("tuple[object, ...]", outcome):
            if isinstance(part, ExceptionInfo) and part.exception is not None:
                part.exception.__traceback__ = None


class CoroutineJob(Job):
    """A task in the event loop: the tracer and the coroutine in a greenlet of their own."""

    __slots__ = (
        "_cut",
        "_depth",
        "_ending",
        "_limits",
        "_loop",
        "_resources",
        "_steered",
        "_task",
        "_timers",
    )

    def __init__(
        self,
        tracer: Callable[..., object],
        args: Sequence[object],
        report: Report,
        *,
        loop: asyncio.AbstractEventLoop,
        resources: Resources,
        limits: Limits,
    ) -> None:
        super().__init__(tracer, args, report)
        self._loop = loop
        self._resources = resources
        self._limits = limits
        self._timers: tuple[asyncio.TimerHandle, ...] = ()
        self._task: asyncio.Task[None] | None = None
        self._cut = Interruption()
        self._steered: _Closable | None = None
        # How many coroutines run within each other. The tracer around them is never interrupted.
        self._depth = 0
        # What is reported of a task that was ended: by a hard limit, or terminated.
        self._ending: Callable[[], None] | None = None

    @override
    def _start(self, context: Context) -> None:
        context.run(_current.set, self)
        context.run(begin_execution)
        coroutine = GreenletCoroutine(self.trace, owner=self)
        self._task = self._loop.create_task(coroutine, context=context)
        soft, hard = self._limits
        if soft is not None:
            self._call_later(soft, self._on_soft_limit, soft)
        if hard is not None:
            self._call_later(hard, self._on_hard_limit, hard)

    def _call_later(self, seconds: float, call: Callable[..., object], *args: object) -> None:
        self._timers += (self._loop.call_later(seconds, call, *args),)

    # -- in the greenlet

    def trace(self) -> None:
        """Call the tracer and report what becomes of it."""
        try:
            self.go_on()
            if len(self._args) == _TRACER_ARGS:
                # So many as Celery gives. Python stays in the same C frame then, and a task that
                # waits has 700 bytes less of the C stack.
                name, task_id, request, body, kind, encoding = self._args
                outcome = self._tracer(name, task_id, request, body, kind, encoding)
            else:
                outcome = self._tracer(*self._args)
        except _Ended:
            if self._ending is not None:
                self._ending()
        except BaseException as exc:  # noqa: BLE001 (the worker decides what each means)
            self.report.failed(exc)
        else:
            self.report.returned(outcome)
            _drop_traceback(outcome)
        for timer in self._timers:
            timer.cancel()
        # Its context knows this job: such a cycle, and a thousand tasks a second would wait for
        # Python to look for cycles. That took a fifth of the worker's time.
        self._task = None

    def run(self, coro: Coroutine[object, Never, R]) -> R:
        """Run a coroutine of this task to its end, in the scopes of the providers."""
        steered = Steered(coro, self._cut)
        outer, self._steered = self._steered, steered
        self._depth += 1
        try:
            result = self._await(steered)
        except BaseException as exc:  # noqa: BLE001 (whatever it is, it belongs to the tracer)
            raise self._error_of(exc)  # noqa: B904 (often it is the same one)
        finally:
            self._depth -= 1
            self._steered = outer
            # One that could not start is closed, so that Python does not warn about it.
            steered.close()
        self.go_on()
        return result

    def _await(self, steered: Steered[R]) -> R:
        self.go_on()
        if self._cut.pending is not None:
            # It could not be interrupted before it started.
            pending, self._cut.pending = self._cut.pending, None
            raise pending
        return await_here(self._resources.scoped(steered))

    def _error_of(self, exc: BaseException) -> BaseException:
        if self._ending is not None:
            if isinstance(exc, Exception) and not isinstance(exc, SoftTimeLimitExceeded):
                logger.warning("%s raised while it was ended", self.name, exc_info=exc)
            return _Ended()
        if self._cut.pending is not None and isinstance(exc, asyncio.CancelledError):
            # It was interrupted while a provider made it wait.
            exc, self._cut.pending = self._cut.pending, None
        return as_celery_error(exc)

    def go_on(self) -> None:
        """Raise what unwinds the tracer, if the task was ended."""
        if self.was_ended:
            raise _Ended

    @property
    def was_ended(self) -> bool:
        """Whether it was terminated, or its hard limit has passed; it may still clean up."""
        return self._ending is not None

    @property
    def in_coroutine(self) -> bool:
        """Whether the user's code runs, and not the tracer's around it."""
        return self._depth > 0

    # -- in the loop

    def _on_soft_limit(self, seconds: float) -> None:
        if self._ending is None:
            self.report.soft_limit(seconds)
            self._cut.pending = SoftTimeLimit(seconds)
            self._cancel()

    def _on_hard_limit(self, seconds: float) -> None:
        self._end_with(lambda: self.report.hard_limit(seconds))

    @override
    def terminate(self, signal: int | None = None) -> None:
        # Celery's reconnecting runs in a thread, and may end tasks.
        self._loop.call_soon_threadsafe(
            self._end_with, lambda: self.report.failed(Terminated(signal))
        )

    def _end_with(self, ending: Callable[[], None]) -> None:
        if self._task is None or self.report.is_over or self._ending is not None:
            # Of one that waits for a slot: Celery terminates it again when it has got it.
            return
        self._ending = ending
        self._cut.pending = None
        self._cancel()
        self._call_later(CLEANUP_SECONDS, self._abandon)

    def _cancel(self) -> None:
        if self._depth and self._task is not None:
            self._task.cancel()

    def _abandon(self) -> None:
        logger.critical(
            "%s did not end within %ss of its cancellation and is abandoned",
            self.name,
            CLEANUP_SECONDS,
        )
        if self._steered is not None:
            self._steered.give_up()
        self._cancel()
        if self._ending is not None:
            self._ending()


class _Closable(Protocol):
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
        super().__init__(tracer, args, report)
        self._executor = executor

    @override
    def _start(self, context: Context) -> None:
        self._executor.submit(context.run, self._trace)

    def _trace(self) -> None:
        try:
            outcome = self._tracer(*self._args)
        except BaseException as exc:  # noqa: BLE001 (the worker decides what each means)
            self.report.failed(exc)
        else:
            self.report.returned(outcome)

    @override
    def terminate(self, signal: int | None = None) -> None:
        logger.warning(
            "%s cannot be terminated: it is a plain function and runs in a thread", self.name
        )
