"""LeanJob: a task that Celery's tracer surrounds only when it does not simply return a value."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from celery import signals, states
from celery.utils.log import get_logger
from typing_extensions import override

from tomskit.celery._internals.celery import request_stack_of, task_stack
from tomskit.celery._internals.celery_replay import trace_again
from tomskit.celery._internals.celery_request import new_context
from tomskit.celery._internals.celery_task_lines import (
    SUCCEEDED,
    logs_success,
    shown_result,
    shows_success,
    succeeded,
    write_success,
)
from tomskit.celery._running.context import Execution, begin_execution, task_id_context
from tomskit.celery._running.greenlets import GreenletCoroutine, wait_to_the_end
from tomskit.celery._running.places import Identity, place_of_task
from tomskit.celery._running.repeated_lines import RepeatedLine
from tomskit.celery._tasks.body import RUN_LEAN
from tomskit.celery.asyncio_pool.job import CoroutineJob, Ended
from tomskit.celery.asyncio_pool.report import Report

if TYPE_CHECKING:
    from celery.app.task import Context as TaskContext

    from tomskit.celery._internals.celery_request import LeanRequest
    from tomskit.celery._running.steering import Limits
    from tomskit.celery.asyncio_pool.failures import Failures
    from tomskit.celery.asyncio_pool.redis_results import RedisResults

__all__ = ("LeanJob",)

logger: Final = get_logger(__name__)

_succeeded: Final = RepeatedLine(SUCCEEDED, write_success)

_prerun: Final[Any] = signals.task_prerun
_postrun: Final[Any] = signals.task_postrun
_success: Final[Any] = signals.task_success

_OURS: Final = 1
"""How many receivers of `task_prerun` and of `task_postrun` are ours, which have nothing to do on this path."""


class LeanJob(CoroutineJob, Execution):
    """A task in the event loop, from a message with nothing special about it.

    If its body returns a value, that is stored, and that is all. Otherwise Celery's tracer runs, with a
    body that only says what has happened: retries, failures, errbacks and the rest are Celery's code.

    Args:
        request: The request.
        report: Tells Celery what happens to the task.
        loop: The event loop.
        limits: The time limits.
        failures: How many tasks fail at once.
        results: Where the result goes; None if it is ignored.
    """

    __slots__ = (
        "_began",
        "_has_left",
        "_is_announced",
        "_outcome",
        "_request",
        "_results",
        "_self_context",
        "is_due",
        "is_result_sent",
    )

    is_due: bool

    def __init__(
        self,
        request: LeanRequest,
        report: Report,
        *,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        failures: Failures,
        results: RedisResults | None,
    ) -> None:
        super().__init__(
            _no_tracer,
            (request.name, request.id),
            report,
            loop=loop,
            limits=limits,
            failures=failures,
        )
        self._request = request
        self._results = results
        # What Celery's tracer is to find in place of the body.
        self._outcome: Callable[[], object] | None = None
        self.is_result_sent: Final = results is not None
        self._self_context: TaskContext | None = None
        self._began = 0.0
        self.is_due = True
        self._has_left = False
        self._is_announced = False

    # -- what the body asks

    @override
    def take_outcome(self) -> Callable[[], object] | None:
        outcome, self._outcome = self._outcome, None
        return outcome

    @property
    @override
    def has_started(self) -> bool:
        # Celery's tracer would store it again, after a state that the body has stored.
        return self._has_left

    @property
    @override
    def lean_body(self) -> Identity | None:
        return self.identity if self._depth and not self._has_left else None

    @property
    def identity(self) -> Identity:
        """The name of the task, the id, and how often it has been retried."""
        request = self._request
        return request.name, request.id, request.headers.get("retries", 0)

    @property
    def request(self) -> TaskContext | None:
        """What ``self.request`` is; None as long as nobody has asked for it."""
        return self._self_context

    @override
    def take_identity(self) -> None:
        self.is_due = False
        context = self._self_context = new_context(self._request)
        task = self._request.task
        task_stack.push(task)
        request_stack_of(task).push(context)

    # -- in the greenlet

    @override
    def trace(self) -> None:
        """Run the body, and store what it returns."""
        request = self._request
        place_of_task.set(self)
        begin_execution(self)
        task_id_context.set(request.id)
        self._began = time.monotonic()
        try:
            if self._ending is not None:
                raise Ended  # noqa: TRY301 (as when the body is ended)
            if len(_prerun.receivers) > _OURS:
                self._announce()
            if self._results is not None and request.task.track_started:
                self._results.store_started(request)
            body = getattr(request.task, RUN_LEAN)
            args, kwargs, _ = request.arguments
            value = body(self, (*args,), kwargs)
        except Ended:
            self._guard.stop()
            if self._is_announced or len(_postrun.receivers) > _OURS:
                self._tell_end(None, None)
            self._leave()
            self._forget()
            if self._ending is not None:
                self._ending()
        except BaseException as exc:  # noqa: BLE001 (the tracer decides what each means)
            self._go_on_with_celery(partial(_raise, exc))
        else:
            self._guard.stop()
            self._succeeded(value)

    def _announce(self) -> None:
        """Call the receivers that ask what runs before it runs."""
        self._is_announced = True
        _prerun.send(**self._sent())

    def _tell_end(self, value: object, state: str | None) -> None:
        _postrun.send(**self._sent(), retval=value, state=state)

    def _identify(self) -> None:
        """Make the request, for which a receiver may ask."""
        if self.is_due:
            self.take_identity()

    def _sent(self) -> dict[str, Any]:
        self._identify()
        request = self._request
        return {
            "sender": request.task,
            "task_id": request.id,
            "task": request.task,
            "args": request.args,
            "kwargs": request.kwargs,
        }

    def _succeeded(self, value: Any) -> None:
        changed = self._self_context
        if changed is not None and (changed.callbacks or changed.chain or changed.chord):
            self._go_on_with_celery(lambda: value)
            return
        data = None
        if self._results is not None:
            children = [] if changed is None else _children_of(self._request.task, changed)
            data = self._results.encode_success(self._request, value, children)
            if data is None:
                self._go_on_with_celery(lambda: value)
                return
        if (
            # Who was told of the beginning is told of the end; so are ours, which set context variables.
            self._is_announced or _success.receivers or len(_postrun.receivers) > _OURS
        ):
            self._tell_receivers(value, data)
        elif self._results is None or data is None:
            self._leave()
            self._forget()
            seconds = time.monotonic() - self._began
            self.report.returned((0, self._log_success(value, seconds), seconds))
        else:
            self._leave()
            self._results.store_success(self._request, data, partial(self._stored, value))
            self._task = None

    def _tell_receivers(self, value: Any, data: bytes | None) -> None:
        """Store the result, and call the receivers that ask how a task has ended."""
        # What ends it from here on comes too late.
        self._task = None
        if self._results is not None and data is not None:
            stored: asyncio.Future[None] = self._loop.create_future()
            self._results.store_success(self._request, data, partial(_settle, stored))
            try:
                wait_to_the_end(stored)
            except Exception:  # noqa: BLE001 (Celery stores it again, as often as it takes)
                self._go_on_with_celery(lambda: value)
                return
        try:
            seconds = time.monotonic() - self._began
            if _success.receivers:
                _success.send(sender=self._request.task, result=value, runtime=seconds)
            shown = self._log_success(value, seconds)
            self._tell_end(value, states.SUCCESS)
        except BaseException as exc:  # noqa: BLE001 (the worker decides what it means)
            self._leave()
            self._forget()
            self.report.failed(exc)
        else:
            self._leave()
            self._forget()
            self.report.returned((0, shown, seconds))

    def _go_on_with_celery(self, outcome: Callable[[], object]) -> None:
        """Have Celery's tracer deal with an outcome of the body."""
        self._leave()
        self._outcome = outcome
        self._tracer, self._args = trace_again(
            self._request, self._self_context, is_announced=self._is_announced
        )
        self._report_tracer()
        self._guard.stop()
        self._forget()

    def _leave(self) -> None:
        if self._self_context is not None and not self._has_left:
            request_stack_of(self._request.task).pop()
            task_stack.pop()
        self._has_left = True
        self.is_due = False

    def _forget(self) -> None:
        # The context has this job: without the cycle Python need not search for any.
        self._task = self._context = self._outcome = self._self_context = None

    # -- when the result is stored

    def _stored(self, value: Any, error: BaseException | None) -> None:
        """Report the end; called in the loop."""
        context = self._context
        if context is None:
            return
        if error is None:
            self._context = self._self_context = None
            seconds = time.monotonic() - self._began
            shown = None
            if shows_success(self._request):
                shown = context.run(self._log_success, value, seconds)
            self.report.returned((0, shown, seconds))
            return
        # As often as it takes, and as Celery does it.
        again = GreenletCoroutine(partial(self._go_on_with_celery, lambda: value), owner=self)
        self._task = self._loop.create_task(again, context=context)

    def _log_success(self, value: Any, seconds: float) -> str | None:
        """Log that it has succeeded; what log lines and events show of the result."""
        request = self._request
        if not shows_success(request):
            return None
        shown = shown_result(value, request.task)
        if logs_success():
            _succeeded.log(succeeded(request, shown, seconds), request.id)
        return shown


def _raise(exc: BaseException) -> object:
    raise exc


def _no_tracer(*_: object) -> object:
    raise AssertionError("set before it is called")


def _children_of(task: Any, context: TaskContext) -> list[object]:
    children: list[object] = task.backend.current_task_children(context)
    return children


def _settle(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
