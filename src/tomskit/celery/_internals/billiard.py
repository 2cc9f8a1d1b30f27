"""billiard: processes of the prefork pool, and what is kept of a task's failure.

The name "MainProcess" of `current_process`
    For: starting the runtime in the processes of a prefork pool, and not in the solo pool, which
    sends the same signal.
    When it is missing: a worker with the solo pool starts its runtime twice, the second time without
    effect.

`ExceptionInfo.exception`
    For: dropping the traceback of a failed task, which is a cycle of 4500 objects.
    When it is missing: after a failed task the log has an AttributeError; Celery is told of the failure.
"""

from __future__ import annotations

from typing import TypeGuard

from billiard.einfo import ExceptionInfo
from billiard.process import current_process

__all__ = ("drop_traceback", "is_pool_process")


def is_pool_process() -> bool:
    """Whether this is a process of a prefork pool."""
    return current_process().name != "MainProcess"


def drop_traceback(outcome: object) -> None:
    """Take the traceback from the exception of a failed task; its text has been stored.

    Through it the frames of Celery's tracer hold the exception, and that holds them: a cycle of 4500
    objects, most of them billiard's.
    """
    if _is_tuple(outcome):
        for part in outcome:
            if isinstance(part, ExceptionInfo) and part.exception is not None:
                part.exception.__traceback__ = None


def _is_tuple(outcome: object) -> TypeGuard[tuple[object, ...]]:
    return isinstance(outcome, tuple)
