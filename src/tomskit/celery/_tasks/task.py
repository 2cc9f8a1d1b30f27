"""AsyncTask: a Celery task whose body is a coroutine function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    Never,
    ParamSpec,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from celery import Celery, states
from celery.canvas import Signature, chunks, xmap, xstarmap
from typing_extensions import override

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.client import send, send_call
from tomskit.celery._client.result import TypedEagerResult, TypedResult
from tomskit.celery._outbox.commits import send_call_on_commit, send_on_commit
from tomskit.celery._tasks.body import bodies_of, members_of
from tomskit.celery._tasks.call_arguments import (
    CallerArguments,
    named_arguments,
    positional_arguments,
)
from tomskit.celery._tasks.functions import coroutine_function, is_async
from tomskit.celery._tasks.hooks import await_hooks
from tomskit.celery._tasks.mapping import MappedTask
from tomskit.celery._tasks.overrides import check_overrides, prepare_results, prepare_sending
from tomskit.celery._tasks.periodic import EVERY, Every, add_to_schedule
from tomskit.celery._tasks.signatures import ImmutableSignature, PartialSignature, TypedSignature
from tomskit.celery._values.codec import Codec
from tomskit.celery._values.parameters import Arguments
from tomskit.celery.options import CallOptions

if TYPE_CHECKING:
    from billiard.einfo import ExceptionInfo

    _Args = tuple[object, ...]
    _Kwargs = dict[str, object]

__all__ = ("AsyncTask", "TaskCall")

P = ParamSpec("P")
P2 = ParamSpec("P2")
T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S", bound=Signature[Any])

_ROUTING: Final = frozenset({"queue", "exchange", "routing_key"})


class AsyncTask(MappedTask[P, R_co]):
    """A Celery task in every respect; only its body is a coroutine function.

    What a type checker accepts in ``delay``, ``adelay``, ``s``, ``si`` and ``p`` arrives in the
    function as that type, and what it would reject is a `TaskArgumentsError`.
    """

    _tomskit_function: Callable[..., Coroutine[object, Never, R_co]]
    _tomskit_bind: bool
    _tomskit_queue: str | None = None
    _tomskit_codec: Codec
    _tomskit_sends_itself: bool = False

    Strategy = "tomskit.celery.asyncio_pool.lean_strategy:strategy"

    @override
    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        check_overrides(cls)
        run = vars(cls).get("run")
        if run is not None and is_async(run):
            # A class that is to be registered: `app.register_task(Charge)`.
            name = vars(cls).get("name") or f"{cls.__module__}.{cls.__name__}"
            function = coroutine_function(run, name=name, bind=True)
            never_retried = getattr(cls, "dont_autoretry_for", ())
            members = members_of(function, name=name, bind=True, never_retried=never_retried)
            members |= bodies_of(function, members["_tomskit_codec"], bind=True)
            for member, value in members.items():
                setattr(cls, member, value)

    @override
    @classmethod
    def bind(cls, app: Celery) -> Celery:
        super().bind(app)
        await_hooks(cls)
        cls._tomskit_sends_itself = prepare_sending(cls, AsyncTask)
        prepare_results(cls, AsyncTask)
        every: Every | None = getattr(cls, EVERY, None)
        if every is not None and not isinstance(app, AsyncApp):
            add_to_schedule(app, cls.name, every)
        return app

    # No docstrings on these: editors then show the function's own where it is called.
    @override
    def delay(self, *args: P.args, **kwargs: P.kwargs) -> TypedResult[R_co]:
        return self.apply_async(CallerArguments(args), kwargs)

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> TypedResult[R_co]:
        call = functools.partial(self.delay, *args, **kwargs)
        if self._tomskit_sends_itself:
            return await send(self.app, call, blocks=True)
        return await send_call(self, call, functools.partial(self._check, args, kwargs))

    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> TypedResult[R_co]:
        call = functools.partial(self.delay, *args, **kwargs)
        signature = functools.partial(self.si, *args, **kwargs)
        if self._tomskit_sends_itself:
            return send_on_commit(self.app, call, signature)
        wire = functools.partial(self._check, args, kwargs)
        return send_call_on_commit(self, call, wire, signature)

    async def adelay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> TypedResult[R_co]:
        return self.delay_on_commit(*args, **kwargs)

    async def aapply_async(
        self,
        args: tuple[object, ...] | list[object] | None = None,
        kwargs: Mapping[str, object] | None = None,
        **options: Unpack[CallOptions],
    ) -> TypedResult[R_co]:
        call = functools.partial(self.apply_async, args, kwargs, **options)
        if not options and not self._tomskit_sends_itself:
            return await send_call(self, call, functools.partial(self._to_wire, args, kwargs))
        return await _send_with(self, call, options)

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
        wire, is_complete = self._check_signature(args, kwargs)
        complete: type[TypedSignature[object]] = TypedSignature
        partial: type[PartialSignature[Never, object]] = PartialSignature
        return self._sign(complete if is_complete else partial, wire)

    @override
    def si(self, *args: P.args, **kwargs: P.kwargs) -> ImmutableSignature[R_co]:
        kind: type[ImmutableSignature[R_co]] = ImmutableSignature
        signature = self._sign(kind, self._check(args, kwargs))
        signature.set_immutable(True)
        return signature

    def p(
        self: Callable[Concatenate[T, P2], R],  # pyright: ignore[reportGeneralTypeIssues]
        *args: P2.args,
        **kwargs: P2.kwargs,
    ) -> PartialSignature[T, R]:
        task = cast("AsyncTask[..., R]", self)
        wire = task._tomskit_codec.check_partial(args, kwargs)
        kind: type[PartialSignature[T, R]] = PartialSignature
        return task._sign(kind, wire)

    def resolve_annotations(self) -> None:
        """Resolve the function's annotations now, as a worker does for its tasks at its start.

        Otherwise that happens when the task is first called.

        Raises:
            ConfigurationError: One cannot be resolved, or means something that cannot be sent.
        """
        result = not self.ignore_result and self.app.conf.result_serializer != "pickle"
        self._tomskit_codec.prepare(result=result)

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
            args: tuple[object, ...] | list[object] | None = None,
            kwargs: Mapping[str, object] | None = None,
            **options: Unpack[CallOptions],
        ) -> TypedResult[R_co]: ...
        @override
        def apply(  # type: ignore[override]
            self,
            args: tuple[object, ...] | list[object] | None = None,
            kwargs: Mapping[str, object] | None = None,
            *,
            throw: bool | None = None,
            task_id: str | None = None,
            retries: int | None = None,
        ) -> TypedEagerResult[R_co]: ...
        @override
        def AsyncResult(self, task_id: str) -> TypedResult[R_co]: ...  # type: ignore[override]

        # What a subclass overrides, as a plain function or as a coroutine function.
        @override
        def run(  # type: ignore[override]
            self, *args: P.args, **kwargs: P.kwargs
        ) -> R_co | Coroutine[object, Never, R_co]: ...
        @override
        def before_start(  # type: ignore[override]
            self, task_id: str, args: _Args, kwargs: _Kwargs
        ) -> object: ...
        @override
        def on_success(  # type: ignore[override]
            self, retval: object, task_id: str, args: _Args, kwargs: _Kwargs
        ) -> object: ...
        @override
        def on_retry(  # type: ignore[override]
            self, exc: Exception, task_id: str, args: _Args, kwargs: _Kwargs, einfo: ExceptionInfo
        ) -> object: ...
        @override
        def on_failure(  # type: ignore[override]
            self, exc: Exception, task_id: str, args: _Args, kwargs: _Kwargs, einfo: ExceptionInfo
        ) -> object: ...
        @override
        def after_return(  # type: ignore[override]
            self,
            status: str,
            retval: object,
            task_id: str,
            args: _Args,
            kwargs: _Kwargs,
            einfo: ExceptionInfo | None,
        ) -> object: ...

    else:

        def apply_async(
            self,
            args: Sequence[object] | None = None,
            kwargs: Mapping[str, object] | None = None,
            *rest: object,
            **options: object,
        ) -> TypedResult[R_co]:
            wire = self._to_wire(args, kwargs)
            if not self._tomskit_codec.is_resolved:
                self.resolve_annotations()
            queue = self._tomskit_queue
            if queue is not None and options.keys().isdisjoint(_ROUTING):
                router = self.app.amqp.router
                if router.lookup_route(self.name, *wire, options, self) is None:
                    options["queue"] = queue
            return super().apply_async(*wire, *rest, **options)

        def apply(
            self,
            args: Sequence[object] | None = None,
            kwargs: Mapping[str, object] | None = None,
            *rest: object,
            **options: object,
        ) -> TypedEagerResult[R_co]:
            done = super().apply(*self._to_wire(args, kwargs), *rest, **options)
            if isinstance(done, TypedEagerResult):
                return done  # of a retry
            value = done.result
            ignored = options.get("ignore_result", self.ignore_result)
            if done.state == states.SUCCESS and not ignored:
                value = self._tomskit_codec.load_result(value)
            return TypedEagerResult(done.id, value, done.state, done.traceback, self.name)

        def AsyncResult(self, task_id: str, **kwargs: object) -> TypedResult[R_co]:
            kwargs.setdefault("backend", self.backend)
            return TypedResult(task_id, task_name=self.name, app=self.app, **kwargs)

        def signature(
            self,
            args: Sequence[object] | None = None,
            kwargs: Mapping[str, object] | None = None,
            *rest: object,
            **options: object,
        ) -> Signature[R_co]:
            codec = self._tomskit_codec
            args, kwargs = codec.encode_some(
                positional_arguments(self.name, args), named_arguments(self.name, kwargs)
            )
            kind = PartialSignature if codec.misses_some(args, kwargs) else TypedSignature
            if options.get("immutable"):
                kind = ImmutableSignature
            elif kind is TypedSignature:
                args, kwargs = self._to_wire(args, kwargs)
            options.setdefault("app", self.app)
            return kind(self, args, kwargs, *rest, **options)

        def map(self, it: Iterable[object]) -> xmap:
            return super().map([self._check((one,), {})[0][0] for one in it])

        def starmap(self, it: Iterable[Iterable[object]]) -> xstarmap:
            return super().starmap([self._check((*many,), {})[0] for many in it])

        def chunks(self, it: Iterable[Iterable[object]], n: int) -> chunks:
            return super().chunks([self._check((*many,), {})[0] for many in it], n)

    def _to_wire(
        self, args: Sequence[object] | None, kwargs: Mapping[str, object] | None
    ) -> Arguments:
        """The wire form of the arguments of ``apply_async`` and ``apply``."""
        if isinstance(args, CallerArguments):
            # As a plain tuple: not all serializers know what to do with another one.
            return self._check((*args,), dict(kwargs or {}))
        wire = positional_arguments(self.name, args), named_arguments(self.name, kwargs)
        if self._sends_objects():
            return wire
        codec = self._tomskit_codec
        return codec.encode(*wire) if self.typing else codec.encode_some(*wire)

    def _check(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Arguments:
        """The wire form of values, which have to fit."""
        if self._sends_objects():
            return args, kwargs
        codec = self._tomskit_codec
        # typing=False is Celery's option for no checks.
        return codec.check(args, kwargs) if self.typing else codec.encode_some(args, kwargs)

    def _check_signature(
        self, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[Arguments, bool]:
        """The same for a signature, and whether these are all the arguments."""
        codec = self._tomskit_codec
        if self.typing and not self._sends_objects():
            return codec.check_signature(args, kwargs)
        return self._check(args, kwargs), not codec.misses_some(args, kwargs)

    def _sends_objects(self) -> bool:
        """Whether pickle brings the values back as they are."""
        _ = self.app  # binds the task to its app, which sets the serializer
        return self.serializer == "pickle"

    def _sign(self, kind: type[S], wire: Arguments) -> S:
        return kind(self, *wire, app=self.app)


class TaskCall(Generic[P, R_co]):
    """A task with options for a call; made by `AsyncTask.options`."""

    __slots__ = ("_options", "_task")

    def __init__(self, task: AsyncTask[P, R_co], options: CallOptions) -> None:
        self._task = task
        self._options = options

    # No docstrings on these: see AsyncTask.
    def delay(self, *args: P.args, **kwargs: P.kwargs) -> TypedResult[R_co]:
        return self._task.apply_async(CallerArguments(args), kwargs, **self._options)

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> TypedResult[R_co]:
        call = functools.partial(self.delay, *args, **kwargs)
        return await _send_with(self._task, call, self._options)

    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> TypedResult[R_co]:
        call = functools.partial(self.delay, *args, **kwargs)
        return send_on_commit(self._task.app, call, functools.partial(self.si, *args, **kwargs))

    async def adelay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> TypedResult[R_co]:
        return self.delay_on_commit(*args, **kwargs)

    def s(self, *args: P.args, **kwargs: P.kwargs) -> TypedSignature[R_co]:
        return self._task.s(*args, **kwargs).set(**self._options)

    def si(self, *args: P.args, **kwargs: P.kwargs) -> ImmutableSignature[R_co]:
        return self._task.si(*args, **kwargs).set(**self._options)

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._task.name}: {self._options}>"


async def _send_with(
    task: AsyncTask[..., object], call: Callable[[], R], options: CallOptions
) -> R:
    # A producer that the caller has brought blocks, and so may a class of the caller's.
    blocks = "producer" in options or task._tomskit_sends_itself
    return await send(task.app, call, blocks=blocks)
