"""Who is running: the app, the task's id, and the identity of an execution.

Celery keeps the running task and its request on stacks that are keyed by greenlet or thread. A
coroutine of that task runs in another thread, and in SQLAlchemy's ``run_sync`` in another
greenlet, where those stacks are empty. Here they are keyed by a token in a ContextVar first:
contexts are copied into asyncio tasks, into ``asyncio.to_thread`` and into SQLAlchemy's greenlets,
so ``self.request``, ``self.retry()`` and ``celery.current_task`` are right in all of them.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Final

from celery import Celery

from tomskit.celery._internals.celery import (
    USE_FAST_LOCALS,
    LocalStack,
    known_apps,
    native_ident,
    request_stack_of,
    task_stack,
    top_of,
)
from tomskit.errors import ConfigurationError

if TYPE_CHECKING:
    from celery import Task
    from celery.app.task import Context

    from tomskit.celery._app import AsyncApp

__all__ = (
    "Execution",
    "TaskIdentity",
    "begin_execution",
    "celery_context",
    "find_app",
    "keep_by_execution",
    "task_id_context",
)

celery_context: Final[ContextVar[AsyncApp | None]] = ContextVar("celery_context", default=None)
"""The running app: in the main thread, in the worker's threads and in coroutines."""

task_id_context: Final[ContextVar[str | None]] = ContextVar("task_id_context", default=None)
"""The id of the running task, or None outside of tasks."""


def find_app() -> Celery | None:
    """The app of this context, else the current one of this thread, else of this process."""
    app = celery_context.get()
    if app is not None:
        return app
    apps = known_apps()
    return apps[0] if apps else None


class Execution:
    """What the stacks of the running task are keyed by.

    Attributes:
        is_due: Whether the task and its request are put on the stacks only when somebody asks.
    """

    __slots__ = ()

    is_due: bool = False

    def take_identity(self) -> None:
        """Put the task and its request on the stacks."""


class _Token(Execution):
    """An execution whose task is put on the stacks where it begins."""

    __slots__ = ()


_execution: Final[ContextVar[Execution | None]] = ContextVar("tomskit_execution", default=None)


def _ident() -> object:
    execution = _execution.get()
    if execution is None:
        return native_ident()
    if execution.is_due:
        execution.take_identity()
    return execution


def keep_by_execution(stack: LocalStack) -> None:
    """Let a coroutine and its children see the entries of their own task on this stack."""
    if stack.__ident_func__ is not _ident:
        stack.__ident_func__ = _ident


def begin_execution(execution: Execution | None = None) -> None:
    """Give this context stacks of its own, shared with all that is started in it."""
    _execution.set(execution or _Token())


class TaskIdentity:
    """The task and the request that run where this is made, to be assumed in another thread."""

    __slots__ = ("_request_stack", "request", "task")

    def __init__(
        self, task: Task[..., object], request: Context, request_stack: LocalStack
    ) -> None:
        self.task: Task[..., object] = task
        self.request: Context = request
        self._request_stack = request_stack

    @classmethod
    def current(cls) -> TaskIdentity | None:
        """The running task, or None when none runs here."""
        task: Task[..., object] | None = top_of(task_stack)
        if task is None:
            return None
        stack = request_stack_of(task)
        request: Context | None = top_of(stack)
        if request is None:
            return None
        keep_by_execution(stack)
        return cls(task, request, stack)

    def assume(self) -> Token[Execution | None]:
        """Be this task from here on, in this thread and context; see `leave`.

        Each call uses a new token, so an asyncio task that is left running in the background never
        sees the request of the next task.
        """
        token = _execution.set(_Token())
        task_stack.push(self.task)
        self._request_stack.push(self.request)
        return token

    def leave(self, token: Token[Execution | None]) -> None:
        """Undo `assume`."""
        self._request_stack.pop()
        task_stack.pop()
        _execution.reset(token)


if USE_FAST_LOCALS:
    raise ConfigurationError(
        "USE_FAST_LOCALS is set: with it Celery binds the running task to its thread for good, "
        "and a coroutine cannot see its own request. Unset that environment variable."
    )
keep_by_execution(task_stack)
