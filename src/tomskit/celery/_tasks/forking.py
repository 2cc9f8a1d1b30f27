"""The code of tasks, and what is beside it: a forked process does not return from it, and limits interrupt only it.

Coroutines have the same where they are run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

from celery import Task

from tomskit.celery._internals.celery_tasks import RETRIED
from tomskit.celery._running.gate import gate
from tomskit.celery._running.long_errors import leave_out_links
from tomskit.celery._running.strays import lineage
from tomskit.celery._tasks.unawaited import refuse_coroutines

__all__ = ("end_strays", "watch_methods", "without_strays")

P = ParamSpec("P")
R = TypeVar("R")

_MARK: Final = "_tomskit_without_strays"


def end_strays(task: Task[..., Any]) -> None:
    """Let a process that the function of a plain task has forked, and not ended, end when it returns.

    A coroutine that it returns is refused.

    The function alone is watched, inside of Celery's wrapper for ``autoretry_for``, which sends a message.
    """
    own = vars(task)
    name = RETRIED if RETRIED in own else "run"
    body: Callable[..., object] = getattr(task, name)
    if not hasattr(body, _MARK):
        own[name] = without_strays(refuse_coroutines(body, task), task)
    _watch_call(task)


def watch_methods(task: Task[..., Any]) -> None:
    """The same for an asynchronous task of a class that has methods of its own around the coroutine."""
    own = vars(task)
    name = RETRIED if RETRIED in own else "run"
    body: Callable[..., object] = getattr(task, name)
    if not hasattr(body, _MARK):
        own[name] = without_strays(body, task)
    _watch_call(task)


def _watch_call(task: Task[..., Any]) -> None:
    kind: Any = type(task)
    plain: Any = Task
    if kind.__call__ is not plain.__call__ and not hasattr(kind.__call__, _MARK):
        kind.__call__ = without_strays(kind.__call__)


def without_strays(
    function: Callable[P, R], task: Task[..., Any] | None = None, *, is_hook: bool = False
) -> Callable[P, R]:
    """The same function, from which no process returns that was forked in it, and which limits may interrupt.

    Args:
        function: Part of a task.
        task: The task, if the function may be called without one that runs: then it may return.
        is_hook: It is not the task's body, which follows or has ended.
    """

    @functools.wraps(function)
    def watched(*args: P.args, **kwargs: P.kwargs) -> R:
        process = lineage.here
        closed = gate.closed(for_good=not is_hook)
        try:
            if closed is not None:
                gate.open()
            return function(*args, **kwargs)
        except Exception as exc:
            if task is None or not task.request.called_directly:
                leave_out_links(exc)
            raise
        finally:
            if closed is not None:
                gate.state = closed
            if lineage.here is not process and (task is None or not task.request.called_directly):
                lineage.end()

    setattr(watched, _MARK, True)
    return watched
