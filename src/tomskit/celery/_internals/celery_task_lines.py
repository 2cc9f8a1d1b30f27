"""Celery: the log lines and the events of a task, as its strategy and its tracer make them.

`trace.LOG_SUCCESS`, `LOG_RECEIVED`, `info`, `safe_repr` and `logger`, and `strategy.logger`
    For: the two log lines of a task.
    When it is missing: an import of the asyncio pool raises ImportError.

`request.logger`
    For: leaving the line at DEBUG to Celery.
    When it is missing: an import of the asyncio pool raises AttributeError.

`EventDispatcher.enabled` and `groups`, and the fields of the event ``task-received``
    For: sending the events of a task only where a monitor wants them, such as Flower.
    When it is missing: the first message of a task is rejected; the log has an AttributeError.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from celery import Task
from celery.app import trace
from celery.utils.saferepr import saferepr
from celery.worker import request, strategy

from tomskit.celery._internals.log_lines import RepeatedLine

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = (
    "log_received",
    "log_success",
    "logs_accepted",
    "logs_received",
    "logs_success",
    "send_received",
    "sends_events",
    "shown_result",
)

_trace: Final[Any] = trace
_request: Final[Any] = request
_strategy: Final[Any] = strategy
_PLAIN_TYPES: Final = (int, bool, type(None))


def _write_received(context: Mapping[str, object]) -> None:
    _strategy.logger.info(_trace.LOG_RECEIVED, context, extra={"data": context})


def _write_success(context: Mapping[str, object]) -> None:
    _trace.info(_trace.LOG_SUCCESS, context)


_received: Final = RepeatedLine(_strategy.logger, _write_received)
_succeeded: Final = RepeatedLine(_trace.logger, _write_success)


def sends_events(eventer: Any) -> bool:
    """Whether a worker sends the events of tasks; its own heartbeats it sends by default."""
    return bool(eventer and eventer.enabled and (not eventer.groups or "task" in eventer.groups))


def send_received(request: Any) -> None:
    """Send the event that a task was received, which has neither ETA nor expiry."""
    request.eventer.send(
        "task-received",
        uuid=request.id,
        name=request.name,
        args=request.argsrepr,
        kwargs=request.kwargsrepr,
        root_id=request.root_id,
        parent_id=request.parent_id,
        retries=request.request_dict.get("retries", 0),
        eta=None,
        expires=None,
    )


def logs_accepted() -> bool:
    """Whether the worker logs that a task was accepted, at DEBUG."""
    logger: logging.Logger = _request.logger
    return logger.isEnabledFor(logging.DEBUG)


def logs_received() -> bool:
    """Whether the worker logs that it has received a task."""
    logger: logging.Logger = _strategy.logger
    return logger.isEnabledFor(logging.INFO)


def log_received(request: Any) -> None:
    """Log that a task was received, as Celery does."""
    context = {
        "id": request.id,
        "name": request.name,
        "args": request.argsrepr,
        "kwargs": request.kwargsrepr,
        "eta": None,
    }
    _received.log(context, request.id)


def logs_success() -> bool:
    """Whether the worker logs that a task has succeeded."""
    logger: logging.Logger = _trace.logger
    return logger.isEnabledFor(logging.INFO)


def log_success(request: Any, shown: str, seconds: float) -> None:
    """Log that a task has succeeded, as Celery does."""
    known = request.request_dict
    context = {
        "id": request.id,
        "name": request.name,
        "return_value": shown,
        "runtime": seconds,
        "args": known.get("argsrepr") or _trace.safe_repr(request.args),
        "kwargs": known.get("kwargsrepr") or _trace.safe_repr(request.kwargs),
    }
    _succeeded.log(context, request.id)


def shown_result(value: object, task: Task[..., object]) -> str:
    """A result in log lines and events."""
    if type(value) in _PLAIN_TYPES:
        return repr(value)
    return saferepr(value, task.resultrepr_maxsize)
