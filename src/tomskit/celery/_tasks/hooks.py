"""Hooks of a task class: those that are ``async def`` are awaited, and all that take the task get it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final

from celery import Task

from tomskit.celery._tasks.body import run_for
from tomskit.celery._tasks.forking import without_strays
from tomskit.celery._tasks.reporting import no_reports

__all__ = ("HOOKS", "await_hooks")

HOOKS: Final = {
    "before_start": 3,
    "on_success": 4,
    "on_retry": 5,
    "on_failure": 5,
    "after_return": 6,
}
"""The methods of a task that Celery calls while it runs it, and with how many arguments."""


def await_hooks(cls: type[Task[..., Any]]) -> None:
    """Let Celery call the hooks of this class, and wait for what they are to await.

    A hook may come from a base class, from an option of the decorator or from `task_annotations`.
    """
    for name in HOOKS:
        found = next(vars(one)[name] for one in cls.__mro__ if name in vars(one))
        if found is not vars(Task)[name] and not isinstance(found, _AwaitedHook):
            setattr(cls, name, _AwaitedHook(found, HOOKS[name]))


class _AwaitedHook:
    """A method that calls a hook. What it returns is awaited in the place of Celery, if it has to be."""

    def __init__(self, hook: object, arguments: int) -> None:
        self._hook = hook
        self._arguments = arguments
        self._lacks_task: bool | None = None
        functools.update_wrapper(self, hook)  # type: ignore[arg-type]

    def __get__(self, task: Task[..., Any] | None, owner: type[Task[..., Any]]) -> object:
        # A partial is a method in newer versions of Python, and none in those that Celery's users know.
        is_partial = isinstance(self._hook, functools.partial)
        bind: Callable[..., object] | None = (
            None if is_partial else getattr(type(self._hook), "__get__", None)
        )
        hook: Any = self._hook if bind is None else bind(self._hook, task, owner)
        if task is None:
            return hook
        if self._lacks_task is None:
            self._lacks_task = _lacks_task(hook, self._arguments)
        if self._lacks_task:
            hook = functools.partial(hook, task)
        return functools.partial(_call, task, hook)


def _lacks_task(hook: Callable[..., object], arguments: int) -> bool:
    """Whether a hook takes one more argument than it is called with: the task.

    Python makes a method of a function, and of nothing else: of no partial, of no object that can be called.
    """
    given = [None] * arguments
    try:
        signature = inspect.signature(hook)
        return not _fits(signature, given) and _fits(signature, [None, *given])
    except (TypeError, ValueError):  # it has no signature
        return False


def _fits(signature: inspect.Signature, given: list[None]) -> bool:
    try:
        signature.bind(*given)
    except TypeError:
        return False
    return True


def _call(
    task: Task[..., Any], hook: Callable[..., object], *args: object, **kwargs: object
) -> object:
    outcome = without_strays(hook, is_hook=True)(*args, **kwargs)
    if inspect.isasyncgen(outcome):
        # Nobody would iterate over it, so nothing of the hook would run.
        name = getattr(hook, "__qualname__", hook)
        raise TypeError(f"The hook {name} of the task {task.name} yields: define it without yield.")
    # Nothing else that can be awaited: the result of a task that the hook has sent, for example.
    if not inspect.iscoroutine(outcome):
        return outcome
    # The outcome of the task is stored already when most of them are called.
    with no_reports(task):
        return without_strays(run_for, is_hook=True)(task, outcome)
