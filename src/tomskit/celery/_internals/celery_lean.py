"""Celery: which tasks have nothing but Celery's own code around them, for the lean path of the asyncio pool.

`worker.strategy.default`, its arguments and those of the handler that it makes
    For: leaving every message to Celery that has anything special.
    When it is missing: a worker with the asyncio pool cannot start: ImportError or TypeError.

`trace.task_has_custom` and `Task.__trace__`
    For: leaving tasks to Celery that have hooks of their own, or a tracer that somebody has replaced.
    When it is missing: an import of the asyncio pool raises ImportError; without ``__trace__`` no task
    takes the lean path.

`autoretry.add_autoretry_behaviour`, the file of the function that it makes, and `_orig_run`
    For: knowing a ``run`` that Celery has wrapped from one that somebody else has.
    When it is missing: tasks with ``autoretry_for`` do not take the lean path.

`Task._backend`
    For: leaving tasks to Celery that have a result backend of their own.
    When it is missing: no task takes the lean path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from celery import Task
from celery.app import autoretry, trace
from celery.loaders.base import BaseLoader
from celery.worker import strategy

if TYPE_CHECKING:
    from celery import Celery

__all__ = (
    "celerys_strategy",
    "has_backend_of_its_own",
    "has_hooks",
    "is_run_by_celery",
    "uses_default_loader_hooks",
)

_trace: Final[Any] = trace
_strategy: Final[Any] = strategy

_HOOKS: Final = ("before_start", "on_success", "after_return")


def celerys_strategy(task: Any, app: Celery, consumer: Any) -> Callable[..., object]:
    """Celery's own handler of a task's messages."""
    handler: Callable[..., object] = _strategy.default(task, app, consumer)
    return handler


def has_hooks(task: Any) -> bool:
    """Whether a task has hooks that Celery calls around its body."""
    classes = type(task).__mro__
    return any(_trace.task_has_custom(task, name) for name in _HOOKS) or any(
        # Celery's own is replaced in a worker, and looks like a user's to `task_has_custom`.
        "__call__" in vars(kind)
        for kind in classes[: classes.index(Task)]
    )


def uses_default_loader_hooks(app: Celery) -> bool:
    """Whether the app's loader does nothing around a task; Django's closes its connections."""
    loader: Any = type(app.loader)
    return all(
        getattr(loader, name) is getattr(BaseLoader, name)
        for name in ("on_task_init", "on_process_cleanup")
    )


def has_backend_of_its_own(task: Any) -> bool:
    """Whether a task's results go elsewhere than the app's."""
    return task._backend is not None


def is_run_by_celery(task: Any, run: object) -> bool:
    """Whether nobody has replaced what runs a task: its tracer, or its body, which is `run`.

    Celery's own wrapper for ``autoretry_for`` is none.
    """
    tracer = getattr(task, "__trace__", None)
    if _file_of(tracer) != trace.__file__:
        return False
    own: dict[str, object] = task.__dict__
    body = own.get("run")
    if body is not None and _file_of(body) == autoretry.__file__:
        body = own.get("_orig_run")
    return body is None or getattr(body, "__func__", None) is run


def _file_of(function: object) -> str | None:
    code = getattr(function, "__code__", None)
    return getattr(code, "co_filename", None)
