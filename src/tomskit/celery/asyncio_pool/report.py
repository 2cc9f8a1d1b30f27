"""Report: tells Celery what happens to a task in the pool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from billiard.einfo import ExceptionInfo
from celery.utils.log import get_logger

from tomskit.celery._internals.celery_worker import Revocable
from tomskit.celery._running.steering import exit_error
from tomskit.errors import TaskExitError
from tomskit.showing import shown

__all__ = ("Callbacks", "Report", "Told", "ignore", "info_of", "log_failure")

logger: Final = get_logger(__name__)


class Told(Protocol):
    """What is told of a task: Celery's request for it."""

    def revoked(self) -> bool:
        """Whether the task is not to run."""
        ...

    def on_accepted(self, pid: int, time_accepted: float, /) -> object:
        """It begins, at this monotonic time."""

    def on_success(self, outcome: object, /) -> object:
        """The tracer has returned this."""

    def on_failure(self, info: ExceptionInfo, /) -> object:
        """The tracer has raised an error, or the task was terminated."""

    def on_timeout(self, soft: bool, timeout: float, /) -> object:
        """The soft or the hard time limit has passed, of so many seconds."""


def ignore(*_: object) -> None:
    """The callback for what nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Those that Celery gives to a pool for a task, or another package for a function of its own.

    Attributes:
        request: Celery's request for the task.
        on_accepted: As of `Told`, and the others.
        on_success: What the tracer has returned.
        on_failure: Its error.
        on_timeout: Whether it was the soft limit, and its seconds.
    """

    request: Revocable | None = None
    on_accepted: Callable[[int, float], object] = ignore
    on_success: Callable[[object], object] = ignore
    on_failure: Callable[[ExceptionInfo], object] = ignore
    on_timeout: Callable[[bool, float], object] = ignore

    def revoked(self) -> bool:
        """Whether the task is not to run."""
        return self.request is not None and self.request.revoked()


class Report:
    """Tells of a task, in the worker's turns and in order.

    Attributes:
        pid: The number by which Celery knows the task.
        is_over: Whether its end was reported.
        told: What is told.

    Args:
        pid: The number.
        told: What is told.
        call_in_turn: Has a function called in the worker's next turn.
        ended: Called with the number after the end was told.
    """

    __slots__ = ("_call_in_turn", "_callback", "_ended", "_outcome", "is_over", "pid", "told")

    def __init__(
        self,
        pid: int,
        told: Told,
        call_in_turn: Callable[[Callable[[], object]], None],
        ended: Callable[[int], object],
    ) -> None:
        self.pid: Final = pid
        self.told: Final = told
        self.is_over: bool = False
        self._outcome: object = None
        self._callback: Callable[[], object] | None = None
        self._call_in_turn = call_in_turn
        self._ended = ended

    def soft_limit(self, seconds: float) -> None:
        """The soft time limit has passed; the task still runs."""
        if not self.is_over:
            self._call_in_turn(partial(self.told.on_timeout, True, seconds))

    def hard_limit(self, seconds: float) -> None:
        """The hard time limit has ended the task."""
        self._end(partial(self.told.on_timeout, False, seconds))

    def returned(self, outcome: object) -> None:
        """The tracer has returned."""
        # What `_end` does, for most tasks.
        if not self.is_over:
            self.is_over = True
            self._outcome = outcome
            self._call_in_turn(self._finish)

    def failed(self, error: BaseException) -> None:
        """The tracer has raised, or the task was terminated."""
        self._end(partial(self.told.on_failure, info_of(error)))

    def _end(self, callback: Callable[[], object]) -> None:
        # An abandoned task may end again, later.
        if not self.is_over:
            self.is_over = True
            self._callback = callback
            self._call_in_turn(self._finish)

    def _finish(self) -> None:
        callback, outcome = self._callback, self._outcome
        self._callback = self._outcome = None
        try:
            if callback is None:
                self.told.on_success(outcome)
            else:
                callback()
        finally:
            self._ended(self.pid)


def log_failure(info: ExceptionInfo) -> None:
    """The callback for an error that nobody handles."""
    # Billiard keeps it in an exception that shows its traceback.
    error: BaseException | None = getattr(info.exception, "exc", info.exception)
    text = "None" if error is None else shown(error)
    logger.error("A function in the pool failed: %s", text, exc_info=error)


def info_of(error: BaseException) -> ExceptionInfo:
    """What Celery is told of an error that its tracer has raised."""
    if not isinstance(error, Exception):
        error = exit_error(error)
    try:
        raise error  # noqa: TRY301 (Celery wants a traceback)
    except Exception as exc:  # noqa: BLE001 (the type of `error`)
        try:
            return ExceptionInfo()
        except Exception:  # noqa: BLE001 (a method of the error's class, or of one before it)
            failure = TaskExitError(
                f"The task raised {shown(exc)}, of which no traceback can be made"
            )
    try:
        raise failure
    except TaskExitError:
        # Where an error is being handled it would come along.
        failure.__context__ = None
        return ExceptionInfo()
