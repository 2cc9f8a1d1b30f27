"""async_shared_task: makes a task of an ``async def`` function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Concatenate, Literal, Never, ParamSpec, Protocol, TypeVar, Unpack, overload

from celery import Celery, Task
from celery.exceptions import TimeLimitExceeded

from tomskit.celery._app import AsyncApp
from tomskit.celery._internals.celery import stack_of, task_stack
from tomskit.celery._internals.celery_tasks import (
    CALLS_OF_TASKS,
    HEADER,
    head_from_fun,
    shared_task,
    target_of,
)
from tomskit.celery._running.runtime import AsyncRuntime
from tomskit.celery._tasks.proxy import TaskProxy
from tomskit.celery._tasks.task import AsyncTask
from tomskit.celery._values.codec import Codec
from tomskit.celery.options import TaskOptions
from tomskit.errors import (
    ConfigurationError,
    NotACoroutineFunctionError,
    TaskArgumentsError,
    TaskResultError,
)

__all__ = ("async_shared_task",)

P = ParamSpec("P")
R = TypeVar("R")


class _Decorator(Protocol):
    def __call__(self, func: Callable[P, Coroutine[object, Never, R]], /) -> AsyncTask[P, R]: ...


class _BindingDecorator(Protocol):
    def __call__(
        self,
        func: Callable[Concatenate[AsyncTask[..., Never], P], Coroutine[object, Never, R]],
        /,
    ) -> AsyncTask[P, R]: ...


@overload
def async_shared_task(func: Callable[P, Coroutine[object, Never, R]], /) -> AsyncTask[P, R]: ...
@overload
def async_shared_task(
    *, bind: Literal[True], **options: Unpack[TaskOptions]
) -> _BindingDecorator: ...
@overload
def async_shared_task(
    *, bind: Literal[False] = False, **options: Unpack[TaskOptions]
) -> _Decorator: ...
def async_shared_task(
    func: Callable[..., Coroutine[object, Never, object]] | None = None,
    /,
    *,
    bind: bool = False,
    **options: Unpack[TaskOptions],
) -> object:
    """Make a Celery task of an ``async def`` function, for whichever app is current.

    Used bare or with any option of ``shared_task``. The task runs on the app's runtime; ``.delay``,
    ``.s``, ``.apply_async``, retries, chains, groups, time limits and the rest are Celery's.

    Args:
        func: The coroutine function, when used without parentheses.
        bind: Pass the task itself to the function as its first argument.
        **options: See `TaskOptions`.

    Raises:
        NotACoroutineFunctionError: The function is not ``async def``.
        ConfigurationError: The function takes ``self``, and ``bind=True`` is missing.
    """

    def decorate(function: Callable[..., Coroutine[object, Never, object]]) -> object:
        if not inspect.iscoroutinefunction(function):
            raise NotACoroutineFunctionError(
                f"async_shared_task takes a coroutine function, not {function!r}: "
                "define it with async def, or use Celery's shared_task for a plain function."
            )
        if not bind and next(iter(inspect.signature(function).parameters), None) == "self":
            raise ConfigurationError(
                f"The task {function.__qualname__} takes self, but nothing passes it: "
                "write @async_shared_task(bind=True)."
            )
        return _create(function, bind=bind, options=options)

    return decorate if func is None else decorate(func)


def _create(
    function: Callable[..., Coroutine[object, Never, object]], *, bind: bool, options: TaskOptions
) -> object:
    celery_options: dict[str, object] = dict(options)
    # Celery deprecates it as a task's attribute; here it is a default for calls.
    queue = celery_options.pop("queue", None)
    celery_options["dont_autoretry_for"] = (
        *options.get("dont_autoretry_for", ()),
        # As under prefork, where a task that exceeds its hard limit is never retried.
        TimeLimitExceeded,
        # A retry would get the same arguments, or do the same work again.
        TaskArgumentsError,
        TaskResultError,
    )
    if not bind:
        # By its header Celery tells an error callback that takes (request, exc, traceback) from one
        # that takes a task id. For Celery every task here is bound, and the header that it makes of
        # a bound task is always one of the latter.
        celery_options[HEADER] = staticmethod(head_from_fun(function))
    name = options.get("name") or f"{function.__module__}.{function.__name__}"
    codec = Codec(function, name=name, bind=bind)
    base: type[AsyncTask[..., object]] = AsyncTask
    shared = shared_task(
        base=base,
        bind=True,
        _tomskit_function=staticmethod(function),
        _tomskit_bind=bind,
        _tomskit_queue=queue,
        _tomskit_codec=codec,
        **celery_options,
    )(_body(function, codec, bind=bind))
    return TaskProxy(function, bind=bind, find_task=functools.partial(target_of, shared))


def _body(
    function: Callable[..., Coroutine[object, Never, object]], codec: Codec, *, bind: bool
) -> Callable[..., object]:
    """The ``run`` method: a plain function, because Celery does not await what it calls."""

    @functools.wraps(function)
    def run(self: AsyncTask[..., object], *args: object, **kwargs: object) -> object:
        args, kwargs = codec.load(args, kwargs)
        coro = function(self, *args, **kwargs) if bind else function(*args, **kwargs)
        app: Celery = self.app
        value = app.runtime_host.run(coro) if isinstance(app, AsyncApp) else AsyncRuntime.run(coro)
        return codec.dump_result(value) if _is_result_sent(self) else value

    # Celery checks a call's arguments against this; it does not follow __wrapped__.
    signature = inspect.signature(function)
    if not bind:
        # Valid in front of any kind of parameter, since it is positional-only.
        task = inspect.Parameter("_task", inspect.Parameter.POSITIONAL_ONLY)
        signature = signature.replace(parameters=[task, *signature.parameters.values()])
    vars(run)["__signature__"] = signature
    return run


def _is_result_sent(task: AsyncTask[..., object]) -> bool:
    """Whether the result of the running call goes into a message or to the result backend."""
    request = task.request
    if request.called_directly:
        # The caller gets the value itself, unless it is one of two tasks of Celery's.
        caller = next(iter(stack_of(task_stack)[-2:-1]), None)
        return isinstance(caller, Task) and caller.name in CALLS_OF_TASKS
    if task.app.conf.result_serializer == "pickle":
        return False
    is_ignored = request.ignore_result or task.ignore_result
    return not is_ignored or bool(request.chain or request.callbacks or request.chord)
