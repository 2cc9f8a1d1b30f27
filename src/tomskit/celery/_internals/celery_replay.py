"""Celery: its tracer, for a task whose body has run already.

`trace.fast_trace_task`, its argument ``_loc``, and a body that is decoded already
    For: any outcome but success: Celery's tracer runs, and the task's body only says what happened.
    When it is missing: such a task fails with a TypeError.

`trace.build_tracer`, and ``send_prerun``, by which it calls the receivers of `task_prerun`
    For: not calling them again, where that was done before the body ran.
    When it is missing: such a task fails with a TypeError, or they are called twice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from celery.app import trace

from tomskit.celery._internals.celery_request import NO_EMBED, LeanRequest

if TYPE_CHECKING:
    from celery.app.task import Context

__all__ = ("trace_again",)

_trace: Final[Any] = trace


def trace_again(
    request: LeanRequest, context: Context | None, *, is_announced: bool
) -> tuple[Callable[..., object], list[object]]:
    """Celery's tracer for a request whose message is decoded, and its arguments.

    Args:
        request: The request.
        context: What ``self.request`` was; the body may have changed it.
        is_announced: Whether the receivers of `task_prerun` have been called.
    """
    # A header may have such a name as what a message embeds, and means nothing of the kind.
    changed = NO_EMBED if context is None else vars(context)
    known = request.request_dict
    known.update(changed)
    embedded = {name: changed.get(name) for name in NO_EMBED}
    body = (request.args, request.kwargs, embedded)
    tracer = _trace.fast_trace_task
    if is_announced:
        quiet = SimpleNamespace(__trace__=_quiet_tracer(request.task, request.hostname))
        tracer = partial(tracer, _loc=({request.name: quiet}, (), request.hostname))
    return tracer, [request.name, request.id, known, body, None, None]


_quiet: Final[WeakKeyDictionary[object, Callable[..., object]]] = WeakKeyDictionary()


def _quiet_tracer(task: Any, hostname: str) -> Callable[..., object]:
    """Celery's tracer of a task, which calls no receivers of `task_prerun`."""
    found = _quiet.get(task)
    if found is None:
        build = _trace.build_tracer
        names = {**vars(trace), "send_prerun": _send_nothing}
        quiet: Any = FunctionType(build.__code__, names, None, build.__defaults__)
        found = quiet(task.name, task, task.app.loader, hostname, app=task.app)
        _quiet[task] = found
    return found


def _send_nothing(**_: object) -> None:
    """Call no receivers of a signal."""
