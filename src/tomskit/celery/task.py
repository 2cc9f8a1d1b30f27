"""async_shared_task: a Celery task whose body is a coroutine function."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import (
    TYPE_CHECKING,
    Concatenate,
    Final,
    Literal,
    Never,
    ParamSpec,
    Protocol,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from celery import Celery, Task, shared_task
from celery.exceptions import Retry, TimeLimitExceeded
from celery.local import Proxy
from celery.result import AsyncResult
from typing_extensions import override

from tomskit.celery.app import AsyncCelery
from tomskit.celery.internals import current_app
from tomskit.celery.options import TaskOptions
from tomskit.celery.runtime import AsyncRuntime
from tomskit.errors import ConfigurationError, NotACoroutineFunctionError

__all__ = ("AsyncTask", "BoundTask", "TaskRequest", "async_shared_task")

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class TaskRequest(Protocol):
    """What ``self.request`` tells about the running call."""

    @property
    def id(self) -> str | None:
        """The task's id."""
        ...

    @property
    def root_id(self) -> str | None:
        """The id of the first task of this workflow."""
        ...

    @property
    def parent_id(self) -> str | None:
        """The id of the task that sent this one."""
        ...

    @property
    def retries(self) -> int:
        """How often the task was retried before."""
        ...

    @property
    def hostname(self) -> str | None:
        """The worker that runs it."""
        ...

    @property
    def is_eager(self) -> bool:
        """Whether it runs where it was called."""
        ...


class BoundTask(Protocol):
    """What a function with ``bind=True`` gets as ``self``; small, so that a test can fake it."""

    @property
    def name(self) -> str:
        """The registered name."""
        ...

    @property
    def max_retries(self) -> int | None:
        """Retries before giving up; None never gives up."""
        ...

    @property
    def request(self) -> TaskRequest:
        """The running call."""
        ...

    def retry(
        self,
        *,
        exc: Exception | None = None,
        throw: bool = True,
        countdown: float | None = None,
        max_retries: int | None = None,
    ) -> Retry:
        """Send the task again: ``raise self.retry(countdown=10)`` (seconds)."""
        ...

    def update_state(
        self,
        *,
        task_id: str | None = None,
        state: str | None = None,
        meta: dict[str, object] | None = None,
    ) -> None:
        """Store a state of your own, such as progress."""


class AsyncTask(Task[P, R_co]):
    """A Celery task in every respect; only its body is a coroutine function."""

    _tomskit_function: Callable[..., Coroutine[object, Never, R_co]]
    _tomskit_bind: bool
    _tomskit_queue: str | None

    # No docstrings on these: editors then show the function's own where it is called.
    if TYPE_CHECKING:

        @override
        def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R_co]: ...

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R_co]:
        # Publishing is blocking I/O. The thread gets a copy of this context, so the running task
        # is the new one's parent as it is with delay().
        return await asyncio.to_thread(self.delay, *args, **kwargs)

    @property
    def func(self) -> Callable[P, Coroutine[object, Never, R_co]]:
        """The coroutine function itself, to await it or to test it without Celery.

        With ``bind=True`` it has its ``self`` already.
        """
        function: Callable[..., Coroutine[object, Never, R_co]] = type(self)._tomskit_function
        return functools.partial(function, self) if self._tomskit_bind else function

    if not TYPE_CHECKING:

        def apply_async(self, args=None, kwargs=None, *rest, **options):
            queue = self._tomskit_queue
            if queue is not None and options.keys().isdisjoint(_ROUTING):
                router = self._get_app().amqp.router
                if router.lookup_route(self.name, args, kwargs, options, self) is None:
                    options["queue"] = queue
            return super().apply_async(args, kwargs, *rest, **options)


_ROUTING: Final = frozenset({"queue", "exchange", "routing_key"})


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
    # As a task attribute it is deprecated in Celery; here it is a default for calls.
    queue = celery_options.pop("queue", None)
    # Under prefork Celery never retries a task that its hard limit has ended.
    celery_options["dont_autoretry_for"] = (
        *options.get("dont_autoretry_for", ()),
        TimeLimitExceeded,
    )
    share = cast(
        "Callable[..., Callable[[Callable[..., object]], _Proxy]]",
        shared_task,
    )
    shared = share(
        base=AsyncTask,
        bind=True,
        _tomskit_function=staticmethod(function),
        _tomskit_bind=bind,
        _tomskit_queue=queue,
        **celery_options,
    )(_body(function, bind=bind))
    return _TaskProxy(function, bind=bind, resolve=shared._get_current_object)


def _body(function: Callable[..., Coroutine[object, Never, R]], *, bind: bool) -> Callable[..., R]:
    """The plain function that Celery calls.

    It is not async, because Celery's autoretry and its tracer wrap and call it as it is.
    """

    @functools.wraps(function)
    def run(self: AsyncTask[..., R], *args: object, **kwargs: object) -> R:
        coro = function(self, *args, **kwargs) if bind else function(*args, **kwargs)
        app: Celery = self.app
        if isinstance(app, AsyncCelery):
            return app.run_coroutine(coro)
        return AsyncRuntime.run(coro)

    # Celery checks a call's arguments against this; it does not follow __wrapped__.
    signature = inspect.signature(function)
    if not bind:
        itself = inspect.Parameter("_task", inspect.Parameter.POSITIONAL_ONLY)
        parameters = [
            # A positional-only parameter may be followed by any kind, so this is always valid.
            itself,
            *signature.parameters.values(),
        ]
        signature = signature.replace(parameters=parameters)
    run.__signature__ = signature  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
    return run


if TYPE_CHECKING:
    _Proxy = Proxy[AsyncTask[..., object]]
else:
    _Proxy = Proxy


class _TaskProxy(_Proxy):
    """The current app's task, with what is known without an app answered without one.

    Celery's own proxy makes a default app for a mere ``isinstance`` at import time and looks the
    task up at each access of an attribute (2 us); this one remembers the task of the current app.
    """

    __slots__ = ("_app", "_bind", "_function", "_resolve", "_task")

    def __init__(
        self,
        function: Callable[..., object],
        *,
        bind: bool,
        resolve: Callable[[], AsyncTask[..., object]],
    ) -> None:
        super().__init__(self._get_current_object, name=function.__name__)
        # Proxy forwards attribute writes to the task.
        write = functools.partial(object.__setattr__, self)
        write("_function", function)
        write("_bind", bind)
        write("_resolve", resolve)
        write("_app", None)
        write("_task", None)

    @override
    def _get_current_object(self) -> AsyncTask[..., object]:
        read = functools.partial(object.__getattribute__, self)
        app = current_app()
        if read("_app") is not app:
            object.__setattr__(self, "_task", read("_resolve")())
            object.__setattr__(self, "_app", app)
        return cast("AsyncTask[..., object]", read("_task"))

    if not TYPE_CHECKING:

        @property
        def __class__(self):
            return AsyncTask

        @property
        def __doc__(self):
            return object.__getattribute__(self, "_function").__doc__

        @property
        def __module__(self):
            return object.__getattribute__(self, "_function").__module__

        @property
        def __signature__(self):
            signature = inspect.signature(object.__getattribute__(self, "_function"))
            skipped = 1 if object.__getattribute__(self, "_bind") else 0
            return signature.replace(parameters=[*signature.parameters.values()][skipped:])

        @property
        def __wrapped__(self):
            return object.__getattribute__(self, "_function")
