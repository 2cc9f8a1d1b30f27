"""billiard: processes of the prefork pool, and what is kept of a task's failure.

The name "MainProcess" of `current_process`
    For: starting the runtime in the processes of a prefork pool, and not in the solo pool, which
    sends the same signal.
    When it is missing: a worker with the solo pool starts its runtime twice, the second time without
    effect.

`ExceptionInfo.exception`, and `ExceptionWithTraceback.exc`; a traceback's frames, whose ``f_locals`` billiard reads
    For: dropping the traceback of a task that failed or is retried, which is a cycle of thousands of objects.
    When it is missing: after a failed task the log has an AttributeError; Celery is told of the failure.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, TypeGuard

from billiard import einfo
from billiard.einfo import ExceptionInfo
from billiard.process import current_process
from celery.exceptions import Retry

from tomskit.celery._internals.python import is_closed_by_clearing

__all__ = ("drop_tracebacks", "is_pool_process")

_einfo: Final[Any] = einfo
_AROUND: Final = (_einfo.ExceptionWithTraceback, Retry)
"""Errors around another one. Celery takes the first from the error of a failure, not from that of a retry."""


def is_pool_process() -> bool:
    """Whether this is a process of a prefork pool."""
    return current_process().name != "MainProcess"


def drop_tracebacks(outcome: object) -> None:
    """Take the traceback from the error of a task that did not succeed; its text has been stored.

    Through it the frames of Celery's tracer hold the error, and that holds them: a cycle of thousands of
    objects, with billiard's copy of the traceback among them, which takes 0.3 MB. The errors that have led
    to it may hold the same frames.

    Args:
        outcome: What the tracer has returned.
    """
    if _is_tuple(outcome):
        for part in outcome:
            if isinstance(part, ExceptionInfo):
                # Of a retry it is an error around another one, which has none: nothing has been cleared.
                _empty_locals(getattr(part.exception, "__traceback__", None))
                for error in _errors_of(part.exception):
                    # Not the attribute: a class may refuse to set any.
                    BaseException.with_traceback(error, None)


def _empty_locals(entry: TracebackType | None) -> None:
    """Empty the dictionaries of local variables that billiard has had made of frames.

    Celery clears the frames, and up to Python 3.12 not these. One that holds an error whose traceback has its
    frame is a cycle, with all that the task had in its hands.
    """
    while entry is not None:
        if not is_closed_by_clearing(entry.tb_frame):
            # To ask for it is to have it made again, of what there is now.
            _ = entry.tb_frame.f_locals
        entry = entry.tb_next


def _errors_of(outcome: object) -> Iterator[BaseException]:
    """An error and those that have led to it, each once."""
    left, known = [outcome], set[int]()
    while left:
        error = left.pop()
        if not _is_error(error) or id(error) in known:
            continue
        known.add(id(error))
        yield error
        left += [error.__cause__, error.__context__]
        found: Any = error
        if issubclass(type(error), _AROUND):
            left.append(found.exc)
        elif issubclass(type(error), BaseExceptionGroup):
            left += found.exceptions


def _is_error(value: object) -> TypeGuard[BaseException]:
    # Its class may say that it is another.
    return issubclass(type(value), BaseException)


def _is_tuple(outcome: object) -> TypeGuard[tuple[object, ...]]:
    return isinstance(outcome, tuple)
