"""Celery: the log lines and the events of a task, as its strategy and its tracer make them.

`trace.LOG_SUCCESS`, `LOG_RECEIVED`, `info`, `safe_repr` and `logger`, and `strategy.logger`
    For: the two log lines of a task.
    When it is missing: an import of the asyncio pool raises ImportError.

`Request._eventer`
    For: looking for a monitor when a task has ended, which is done for each.
    When it is missing: the result of a task is stored, and the worker does not know of it; the log has an
    AttributeError.

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
from celery.worker import strategy

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = (
    "RECEIVED",
    "SUCCEEDED",
    "logs_received",
    "logs_success",
    "received",
    "send_received",
    "sends_events",
    "shown_result",
    "shows_success",
    "succeeded",
    "write_received",
    "write_success",
)

_trace: Final[Any] = trace
_strategy: Final[Any] = strategy

RECEIVED: Final[logging.Logger] = _strategy.logger
"""The logger of the lines that tasks were received."""

SUCCEEDED: Final[logging.Logger] = _trace.logger
"""The logger of the lines that tasks have succeeded."""

_PLAIN_TYPES: Final = (int, bool, type(None))


def write_received(context: Mapping[str, object]) -> None:
    """Log that a task was received, as Celery does."""
    _strategy.logger.info(_trace.LOG_RECEIVED, context, extra={"data": context})


def write_success(context: Mapping[str, object]) -> None:
    """Log that a task has succeeded, as Celery does."""
    _trace.info(_trace.LOG_SUCCESS, context)


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
        retries=request.headers.get("retries", 0),
        eta=None,
        expires=None,
    )


def logs_received() -> bool:
    """Whether the worker logs that it has received a task."""
    return RECEIVED.isEnabledFor(logging.INFO)


def received(request: Any) -> dict[str, object]:
    """What the line that a task was received shows."""
    known = request.headers
    return {
        "id": request.id,
        "name": request.name,
        "args": known.get("argsrepr", ""),
        "kwargs": known.get("kwargsrepr", ""),
        "eta": None,
    }


def logs_success() -> bool:
    """Whether the worker logs that a task has succeeded."""
    return SUCCEEDED.isEnabledFor(logging.INFO)


def shows_success(request: Any) -> bool:
    """Whether a line or an event shows what a task has returned."""
    return SUCCEEDED.isEnabledFor(logging.INFO) or sends_events(request._eventer)


def succeeded(request: Any, shown: str, seconds: float) -> dict[str, object]:
    """What the line that a task has succeeded shows."""
    known = request.headers
    return {
        "id": request.id,
        "name": request.name,
        "return_value": shown,
        "runtime": seconds,
        "args": known.get("argsrepr") or _trace.safe_repr(request.args),
        "kwargs": known.get("kwargsrepr") or _trace.safe_repr(request.kwargs),
    }


def shown_result(value: object, task: Task[..., object]) -> str:
    """A result in log lines and events."""
    if type(value) in _PLAIN_TYPES:
        return repr(value)
    return saferepr(value, task.resultrepr_maxsize)
