"""Report: what Celery is told of a task in the pool."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from billiard.einfo import ExceptionInfo
from celery.exceptions import WorkerLostError

__all__ = ("Report", "Revocable")


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
