"""Report: tells Celery what happens to a task in the pool."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from billiard.einfo import ExceptionInfo
from celery.utils.log import get_logger

from tomskit.celery._internals.celery_worker import Revocable
from tomskit.celery._running.steering import exit_error

__all__ = ("Report", "ignore", "log_failure")

logger: Final = get_logger(__name__)


class Report:
    """Calls Celery's callbacks for a task, in the worker's turns and in order.

    Attributes:
        pid: The number by which Celery knows the task.

    Args:
        pid: This number.
        call_in_turn: Has a function called in the worker's next turn.
        ended: Called with the number after Celery's callback for the end.
        request: Celery's request for the task.
        accepted: Called with the number and the monotonic time of the start.
        returned: Called with what the tracer has returned.
        failed: Called with the error if it has raised.
        timed_out: Called with whether it was the soft limit, and its seconds.
    """

    __slots__ = (
        "_call_in_turn",
        "_callback",
        "_ended",
        "_failed",
        "_request",
        "_returned",
        "_timed_out",
        "accepted",
        "is_over",
        "pid",
    )

    def __init__(
        self,
        pid: int,
        call_in_turn: Callable[[Callable[[], object]], None],
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
        self._callback: Callable[[], object] = ignore
        self._call_in_turn = call_in_turn
        self._ended = ended
        self._request = request
        self._returned = returned
        self._failed = failed
        self._timed_out = timed_out

    def is_revoked(self) -> bool:
        """Whether the task is not to run any more; Celery has stored and announced that."""
        return self._request is not None and self._request.revoked()

    def soft_limit(self, seconds: float) -> None:
        """The soft time limit has passed; the task still runs."""
        if not self.is_over:
            timed_out = self._timed_out
            self._call_in_turn(lambda: timed_out(True, seconds))

    def hard_limit(self, seconds: float) -> None:
        """The hard time limit has ended the task."""
        timed_out = self._timed_out
        self._end(lambda: timed_out(False, seconds))

    def returned(self, outcome: object) -> None:
        """The tracer has returned."""
        self._end(partial(self._returned, outcome))

    def failed(self, error: BaseException) -> None:
        """The tracer has raised, or the task was terminated."""
        failed = self._failed
        info = _info_of(error)
        self._end(lambda: failed(info))

    def _end(self, callback: Callable[[], object]) -> None:
        # An abandoned task may end again, later.
        if not self.is_over:
            self.is_over = True
            self._callback = callback
            self._call_in_turn(self._finish)

    def _finish(self) -> None:
        callback, self._callback = self._callback, ignore
        try:
            callback()
        finally:
            self._ended(self.pid)


def ignore(*_: object) -> None:
    """The callback for what nobody wants to know."""


def log_failure(info: ExceptionInfo) -> None:
    """The callback for an error that nobody handles."""
    # Billiard keeps it in an exception that shows its traceback.
    error: BaseException | None = getattr(info.exception, "exc", info.exception)
    logger.error("A function in the pool failed: %r", error, exc_info=error)


def _info_of(error: BaseException) -> ExceptionInfo:
    if not isinstance(error, Exception):
        error = exit_error(error)
    try:
        raise error  # noqa: TRY301 (Celery wants a traceback)
    except Exception:  # noqa: BLE001 (the type of `error`)
        return ExceptionInfo()
