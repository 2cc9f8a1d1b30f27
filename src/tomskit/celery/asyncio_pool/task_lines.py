"""The two log lines of a task, as Celery writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tomskit.celery._internals import celery_task_lines as celerys
from tomskit.celery._running.repeated_lines import RepeatedLine

if TYPE_CHECKING:
    from tomskit.celery.asyncio_pool.lean_request import LeanRequest

__all__ = ("log_received", "log_success")

_received: Final = RepeatedLine(celerys.RECEIVED, celerys.write_received)
_succeeded: Final = RepeatedLine(celerys.SUCCEEDED, celerys.write_success)


def log_received(request: LeanRequest) -> None:
    """Log that a task was received."""
    _received.log(celerys.received(request), request.id)


def log_success(request: LeanRequest, shown: str, seconds: float) -> None:
    """Log that a task has succeeded, with this text for its result, after so many seconds."""
    _succeeded.log(celerys.succeeded(request, shown, seconds), request.id)
