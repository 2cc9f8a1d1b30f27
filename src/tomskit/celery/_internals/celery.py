"""Celery: the current app and task, and the table of pools.

`LocalStack.__ident_func__`
    For: ``self.request``, ``self.retry()`` and ``celery.current_task`` inside coroutines. The stacks
    behind them are keyed by what this function returns; ours returns a token of the execution.
    When it is missing: an import of tomskit.celery raises AttributeError. Where Celery has it and
    does not call it any more, a coroutine sees no request.

`LocalStack._local`, its ``__storage__``
    For: reading a stack that is empty in most threads without the cost of two exceptions.
    When it is missing: AsyncRuntime.run raises AttributeError.

`_state._task_stack`
    For: the task that is running.
    When it is missing: an import of tomskit.celery raises AttributeError.

`_state._tls`, its ``current_app``, and `_state.default_app`
    For: finding the app of this thread, or of this process, where Celery would make one up.
    When it is missing: AsyncRuntime.run and AsyncTaskRunner.run raise AttributeError outside of
    workers.

`threads.get_ident`
    For: the key of the stacks for code that runs in no coroutine: its greenlet or thread.
    When it is missing: an import of tomskit.celery raises AttributeError.

`threads.USE_FAST_LOCALS`
    For: refusing this setting of the environment, with which the stacks have no such keys.
    When it is missing: an import of tomskit.celery raises AttributeError.

`result.assert_will_not_block`
    For: refusing to wait for a result inside of a task.
    When it is missing: an import of tomskit.celery raises AttributeError.

`Celery.set_as_current`
    For: making the app the default one of all threads, and knowing it from the app called "default"
    that Celery makes for itself.
    When it is missing: making an AsyncCelery raises AttributeError.

`concurrency.ALIASES`
    For: the name of the asyncio pool in ``worker_pool``.
    When it is missing: making an AsyncCelery raises AttributeError.

`celery.bin.worker.WORKERS_POOL`, its ``choices``
    For: ``celery worker -P asyncio``.
    When it is missing: the command line refuses ``-P asyncio``; ``worker_pool`` still works.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from celery import Celery, _state, concurrency, result
from celery.utils import threads

__all__ = (
    "USE_FAST_LOCALS",
    "LocalStack",
    "assert_will_not_block",
    "current_app",
    "is_anybodys_app",
    "is_set_as_current",
    "known_apps",
    "native_ident",
    "register_pool",
    "request_stack_of",
    "stack_of",
    "task_stack",
    "top_of",
)


class _Local(Protocol):
    __storage__: dict[object, dict[str, list[Any]]]


class LocalStack(Protocol):
    """``celery.utils.threads.LocalStack``: a stack for each thread or greenlet."""

    __ident_func__: Callable[[], object]
    _local: _Local

    def push(self, obj: object, /) -> object: ...
    def pop(self) -> object: ...


class _ThreadState(Protocol):
    current_app: Celery | None


class _State(Protocol):
    default_app: Celery | None
    _task_stack: LocalStack
    _tls: _ThreadState


_untyped_state: Any = _state
_untyped_threads: Any = threads
_untyped_result: Any = result
_untyped_concurrency: Any = concurrency

_celery_state: Final[_State] = _untyped_state


USE_FAST_LOCALS: Final[str | None] = _untyped_threads.USE_FAST_LOCALS
native_ident: Final[Callable[[], object]] = _untyped_threads.get_ident
"""The greenlet, or the number of the thread, that calls it."""
assert_will_not_block: Final[Callable[[], None]] = _untyped_result.assert_will_not_block
"""Raises in a task, where waiting for another one may be for ever."""
current_app: Final[Callable[[], Celery]] = _state.get_current_app
"""The current app itself, not a proxy of it."""
task_stack: Final[LocalStack] = _celery_state._task_stack
"""The running tasks, each of which was called by the one below it."""


def request_stack_of(task: Any) -> LocalStack:
    """The stack of the requests that a task is running for."""
    stack: LocalStack = task.request_stack
    return stack


def top_of(stack: LocalStack) -> Any:
    """What is on top of the stack here, or None.

    The stack's own ``top`` finds out that it is empty by two exceptions (1.5 us).
    """
    entries = stack_of(stack)
    return entries[-1] if entries else None


def stack_of(stack: LocalStack) -> list[Any]:
    """What is on the stack here, the newest last."""
    entry = stack._local.__storage__.get(stack.__ident_func__())
    return entry["stack"] if entry else []


def known_apps() -> list[Celery]:
    """The current app of this thread and the default app of this process, where there are any."""
    return [
        app
        for app in (_celery_state._tls.current_app, _celery_state.default_app)
        if app is not None and is_anybodys_app(app)
    ]


def is_anybodys_app(app: Celery) -> bool:
    """False for the app called "default" that Celery makes for itself where there is none."""
    return is_set_as_current(app) or app.main != "default"


def is_set_as_current(app: Any) -> bool:
    """Whether the app made itself the current one."""
    return bool(app.set_as_current)


class _Choice(Protocol):
    choices: Sequence[str]


def register_pool(name: str, path: str) -> None:
    """Let ``worker_pool``, ``-P`` and their environment variables take `name`.

    Celery's command line has copied the names of the pools before it loads an app.
    """
    aliases: dict[str, str] = _untyped_concurrency.ALIASES
    aliases[name] = path
    command = sys.modules.get("celery.bin.worker")
    choice: _Choice | None = getattr(command, "WORKERS_POOL", None)
    if choice is not None and name not in choice.choices:
        choice.choices = (*choice.choices, name)
