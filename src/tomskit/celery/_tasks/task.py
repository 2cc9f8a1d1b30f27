"""async_shared_task: a Celery task whose body is a coroutine function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from typing import (
    TYPE_CHECKING,
    Concatenate,
    Final,
    Generic,
    Literal,
    Never,
    ParamSpec,
    Protocol,
    TypeVar,
    Unpack,
    cast,
    overload,
    runtime_checkable,
)

from celery import Celery, Task, shared_task, states
from celery.canvas import Signature
from celery.exceptions import Retry, TimeLimitExceeded
from celery.local import Proxy
from celery.utils.functional import head_from_fun
from typing_extensions import override

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.client import send, send_call
from tomskit.celery._client.result import TypedEagerResult, TypedResult
from tomskit.celery._client.threads import in_thread
from tomskit.celery._internals.celery import current_app, stack_of, task_stack
from tomskit.celery._running.runtime import AsyncRuntime
from tomskit.celery._tasks.signatures import ImmutableSignature, PartialSignature, TypedSignature
from tomskit.celery._values.codec import Codec
from tomskit.celery.options import CallOptions, TaskOptions
from tomskit.errors import (
    ConfigurationError,
    NotACoroutineFunctionError,
    TaskArgumentsError,
    TaskResultError,
)

__all__ = ("AsyncTask", "BoundTask", "TaskCall", "TaskRequest", "async_shared_task")

P = ParamSpec("P")
P2 = ParamSpec("P2")
T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@runtime_checkable
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


@runtime_checkable
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
        args: tuple[object, ...] | None = None,
        kwargs: dict[str, object] | None = None,
        exc: Exception | None = None,
        throw: bool = True,
        countdown: float | None = None,
        max_retries: int | None = None,
    ) -> Retry:
        """Send the task again: ``raise self.retry(countdown=10)`` (seconds).

        Args:
            args: Other positional arguments than this time.
            kwargs: Other keyword arguments.
            exc: What to raise when there have been too many retries.
            throw: Raise the exception that tells the worker, rather than return it.
            countdown: How long to wait.
            max_retries: Another limit for this call.
        """
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
    """A Celery task in every respect; only its body is a coroutine function.

    What a type checker accepts in ``delay``, ``adelay``, ``s``, ``si`` and ``p`` arrives in the
    function as that type, and what it would reject is a `TaskArgumentsError`.
    """

    _tomskit_function: Callable[..., Coroutine[object, Never, R_co]]
    _tomskit_bind: bool
    _tomskit_queue: str | None
    _tomskit_codec: Codec

    # No docstrings on these: editors then show the function's own where it is called.
    @override
    def delay(self, *args: P.args, **kwargs: P.kwargs) -> TypedResult[R_co]:
        return self._publish(*self._checked(args, kwargs))

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> TypedResult[R_co]:
        call = functools.partial(self.delay, *args, **kwargs)
        return await send_call(self, call, functools.partial(self._checked, args, kwargs))

    async def aapply_async(
        self,
        args: tuple[object, ...] | None = None,
        kwargs: Mapping[str, object] | None = None,
        **options: Unpack[CallOptions],
    ) -> TypedResult[R_co]:
        call = functools.partial(self.apply_async, args, kwargs, **options)
        if not options:
            return await send_call(self, call, functools.partial(self._encoded, args, kwargs))
        return await _send_with(self.app, call, options)

    def options(self, **options: Unpack[CallOptions]) -> TaskCall[P, R_co]:
        """The same task with options for a call: ``task.options(countdown=3).delay(...)``."""
        return TaskCall(self, options)

    @overload
    def s(self, *args: P.args, **kwargs: P.kwargs) -> TypedSignature[R_co]: ...  # type: ignore[overload-overlap]
    @overload
    def s(
        self: Callable[Concatenate[T, P2], R],  # pyright: ignore[reportGeneralTypeIssues]
        *args: P2.args,
        **kwargs: P2.kwargs,
    ) -> PartialSignature[T, R]: ...
    @override
    def s(self, *args: object, **kwargs: object) -> Signature[object]:
        wire, complete = self._checked_signature(args, kwargs)
        return self._signature(TypedSignature if complete else PartialSignature, *wire)

    @override
    def si(self, *args: P.args, **kwargs: P.kwargs) -> ImmutableSignature[R_co]:
        wire = self._checked(args, kwargs)
        signature = self._signature(ImmutableSignature, *wire)
        signature.set_immutable(True)
        return cast("ImmutableSignature[R_co]", signature)

    def p(
        self: Callable[Concatenate[T, P2], R],  # pyright: ignore[reportGeneralTypeIssues]
        *args: P2.args,
        **kwargs: P2.kwargs,
    ) -> PartialSignature[T, R]:
        task = cast("AsyncTask[..., R]", self)
        wire = task._tomskit_codec.check_partial(args, kwargs)
        return cast("PartialSignature[T, R]", task._signature(PartialSignature, *wire))

    def resolve_annotations(self) -> None:
        """Resolve the function's annotations now, as a worker does for its tasks at its start.

        Else that happens when the task is first called.

        Raises:
            ConfigurationError: One cannot be resolved, or means something that cannot be sent.
        """
        pickled = self.app.conf.result_serializer == "pickle"
        self._tomskit_codec.prepare(result=not (self.ignore_result or pickled))

    @property
    def func(self) -> Callable[P, Coroutine[object, Never, R_co]]:
        """The coroutine function itself, to await it or to test it without Celery.

        With ``bind=True`` it has its ``self`` already.
        """
        function: Callable[..., Coroutine[object, Never, R_co]] = type(self)._tomskit_function
        return functools.partial(function, self) if self._tomskit_bind else function

    if TYPE_CHECKING:

        @override
        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
        @override
        def apply_async(  # type: ignore[override]
            self,
            args: tuple[object, ...] | None = None,
            kwargs: Mapping[str, object] | None = None,
            **options: Unpack[CallOptions],
        ) -> TypedResult[R_co]: ...
        @override
        def apply(  # type: ignore[override]
            self,
            args: tuple[object, ...] | None = None,
            kwargs: Mapping[str, object] | None = None,
            *,
            throw: bool | None = None,
            task_id: str | None = None,
            retries: int | None = None,
        ) -> TypedEagerResult[R_co]: ...
        @override
        def AsyncResult(self, task_id: str) -> TypedResult[R_co]: ...  # type: ignore[override]
        def _publish(
            self, args: tuple[object, ...], kwargs: Mapping[str, object], **options: object
        ) -> TypedResult[R_co]: ...
        def _checked(
            self, args: tuple[object, ...], kwargs: Mapping[str, object]
        ) -> tuple[tuple[object, ...], dict[str, object]]: ...
        def _encoded(
            self, args: tuple[object, ...] | None, kwargs: Mapping[str, object] | None
        ) -> tuple[tuple[object, ...], dict[str, object]]: ...
        def _checked_signature(
            self, args: tuple[object, ...], kwargs: Mapping[str, object]
        ) -> tuple[tuple[tuple[object, ...], dict[str, object]], bool]: ...
        def _signature(
            self,
            kind: type[Signature[object]],
            args: tuple[object, ...],
            kwargs: Mapping[str, object],
        ) -> Signature[object]: ...

    else:

        def apply_async(self, args=None, kwargs=None, *rest, **options):
            # Celery calls this too, in the worker, for what has come over the wire; so wire forms
            # do as well here. (Not so on the decorated name: see _TaskProxy.)
            return self._publish(*self._encoded(args, kwargs), *rest, **options)

        def apply(self, args=None, kwargs=None, *rest, **options):
            return self._run_here(*self._encoded(args, kwargs), *rest, **options)

        def AsyncResult(self, task_id, **kwargs):
            kwargs.setdefault("backend", self.backend)
            return TypedResult(task_id, task_name=self.name, app=self._get_app(), **kwargs)

        def signature(self, args=None, kwargs=None, *rest, **options):
            codec = self._tomskit_codec
            args, kwargs = codec.encode_some(args or (), kwargs or {})
            kind = PartialSignature if codec.misses_some(args, kwargs) else TypedSignature
            if options.get("immutable"):
                kind = ImmutableSignature
            elif kind is TypedSignature:
                args, kwargs = self._encoded(args, kwargs)
            options.setdefault("app", self.app)
            return kind(self, args, kwargs, *rest, **options)

        def map(self, it):
            return super().map([self._checked((one,), {})[0][0] for one in it])

        def starmap(self, it):
            return super().starmap([self._checked((*many,), {})[0] for many in it])

        def chunks(self, it, n):
            return super().chunks([self._checked((*many,), {})[0] for many in it], n)

        def _signature(self, kind, args, kwargs):
            return kind(self, args, kwargs, app=self.app)

        def _checked(self, args, kwargs):
            # pickle brings back what it was given; typing=False is Celery's, for no checks.
            if self._sends_objects():
                return args, kwargs
            codec = self._tomskit_codec
            return codec.check(args, kwargs) if self.typing else codec.encode_some(args, kwargs)

        def _checked_signature(self, args, kwargs):
            codec = self._tomskit_codec
            if self._sends_objects() or not self.typing:
                wire = (args, kwargs) if self._sends_objects() else codec.encode_some(args, kwargs)
                return wire, not codec.misses_some(args, kwargs)
            return codec.check_signature(args, kwargs)

        def _encoded(self, args, kwargs):
            args, kwargs = args or (), kwargs or {}
            if self._sends_objects():
                return args, kwargs
            codec = self._tomskit_codec
            encode = codec.encode if self.typing else codec.encode_some
            return encode(args, kwargs)

        def _sends_objects(self):
            self._get_app()
            return self.serializer == "pickle"

        def _publish(self, args, kwargs, *rest, **options):
            self.resolve_annotations()
            queue = self._tomskit_queue
            if queue is not None and options.keys().isdisjoint(_ROUTING):
                router = self._get_app().amqp.router
                if router.lookup_route(self.name, args, kwargs, options, self) is None:
                    options["queue"] = queue
            return super().apply_async(args, kwargs, *rest, **options)

        def _run_here(self, args, kwargs, *rest, **options):
            done = super().apply(args, kwargs, *rest, **options)
            if isinstance(done, TypedEagerResult):
                # Of a retry.
                return done
            value = done.result
            ignored = options.get("ignore_result", self.ignore_result)
            if done.state == states.SUCCESS and not ignored:
                value = self._tomskit_codec.load_result(value)
            return TypedEagerResult(done.id, value, done.state, done.traceback, done._name)


class TaskCall(Generic[P, R_co]):
    """A task with options for a call; made by `AsyncTask.options`."""

    __slots__ = ("_options", "_task")

    def __init__(self, task: AsyncTask[P, R_co], options: CallOptions) -> None:
        self._task = task
        self._options = options

    # No docstrings on these: see AsyncTask.
    def delay(self, *args: P.args, **kwargs: P.kwargs) -> TypedResult[R_co]:
        return self._task._publish(*self._task._checked(args, kwargs), **self._options)

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> TypedResult[R_co]:
        call = functools.partial(self.delay, *args, **kwargs)
        return await _send_with(self._task.app, call, self._options)

    def s(self, *args: P.args, **kwargs: P.kwargs) -> TypedSignature[R_co]:
        return self._task.s(*args, **kwargs).set(**self._options)

    def si(self, *args: P.args, **kwargs: P.kwargs) -> ImmutableSignature[R_co]:
        return self._task.si(*args, **kwargs).set(**self._options)

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._task.name}: {self._options}>"


async def _send_with(app: Celery, call: Callable[[], R], options: CallOptions) -> R:
    # A producer that the caller has brought blocks.
    return await (in_thread(call) if "producer" in options else send(app, call))


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
        # Another try would get the same arguments, or do the same work again.
        TaskArgumentsError,
        TaskResultError,
    )
    if not bind:
        # By this one Celery tells a callback for errors that takes (request, exc, traceback) from
        # one that takes the task's id; of a bound task's it makes a partial, and takes it for the
        # latter. Every task of ours is bound for Celery, whose function need not be.
        celery_options["__header__"] = staticmethod(head_from_fun(function))
    name = options.get("name") or f"{function.__module__}.{function.__name__}"
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
        _tomskit_codec=(codec := Codec(function, name=name, bind=bind)),
        **celery_options,
    )(_body(function, codec, bind=bind))
    return _TaskProxy(function, bind=bind, resolve=shared._get_current_object)


def _body(
    function: Callable[..., Coroutine[object, Never, object]], codec: Codec, *, bind: bool
) -> Callable[..., object]:
    """The plain function that Celery calls.

    It is not async, because Celery's autoretry and its tracer wrap and call it as it is.
    """

    @functools.wraps(function)
    def run(self: AsyncTask[..., object], *args: object, **kwargs: object) -> object:
        args, kwargs = codec.load(args, kwargs)
        coro = function(self, *args, **kwargs) if bind else function(*args, **kwargs)
        app: Celery = self.app
        value = app.runtime_host.run(coro) if isinstance(app, AsyncApp) else AsyncRuntime.run(coro)
        return codec.dump_result(value) if _is_sent(self) else value

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


def _is_sent(task: AsyncTask[..., object]) -> bool:
    """Whether the result of the running call goes over the wire."""
    request = task.request
    if request.called_directly:
        # A plain call, whose caller wants the value itself; unless that is a task of Celery's.
        callers = cast("list[Task[..., object]]", stack_of(task_stack)[:-1])
        return bool(callers) and callers[-1].name in {"celery.map", "celery.starmap"}
    if task.app.conf.result_serializer == "pickle":
        return False
    ignored = request.ignore_result or task.ignore_result
    return not ignored or bool(request.chain or request.callbacks or request.chord)


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
        # Who calls these has the values themselves, and they must fit as with delay(). Celery,
        # which has them in wire form, calls them on the task in its registry.
        def apply_async(self, args=None, kwargs=None, *rest, **options):
            task = self._get_current_object()
            wire = task._checked(tuple(args or ()), dict(kwargs or {}))
            return task._publish(*wire, *rest, **options)

        async def aapply_async(self, args=None, kwargs=None, **options):
            call = functools.partial(self.apply_async, args, kwargs, **options)
            if options:
                return await _send_with(current_app(), call, options)
            task = self._get_current_object()
            values = tuple(args or ()), dict(kwargs or {})
            return await send_call(task, call, functools.partial(task._checked, *values))

        def apply(self, args=None, kwargs=None, *rest, **options):
            task = self._get_current_object()
            wire = task._checked(tuple(args or ()), dict(kwargs or {}))
            return task._run_here(*wire, *rest, **options)

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
