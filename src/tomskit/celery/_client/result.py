"""Results that know what the task's function returns."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Generator, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

from celery import states
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, EagerResult
from typing_extensions import override

from tomskit.celery._client.client import subscriptions_of
from tomskit.celery._client.progress import watch_progress
from tomskit.celery._client.seconds import check_seconds
from tomskit.celery._client.states import StatefulResult, tasks_before
from tomskit.celery._client.threads import in_thread
from tomskit.celery._client.waiting import reading, waiting
from tomskit.celery._internals.celery import assert_will_not_block
from tomskit.celery._internals.celery_results import keep_outcome, raise_error_of_parents
from tomskit.celery._values.progress import progress_loader
from tomskit.errors import TaskResultError

if TYPE_CHECKING:
    from celery import Celery
    from celery.backends.base import Backend
    from celery.result import ResultBase

__all__ = ("TypedEagerResult", "TypedResult", "as_typed")

R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")

_FIRST_PAUSE: Final = 0.01
"""Seconds."""
_SLOWER: Final = 1.5

_IN_A_TASK: Final = (
    "A task must not {wait} of another one: where all workers wait, none is left to run what they wait for. "
    "Compose them instead, such as chain(first.s(1), second.p()) or chord([...], last.p()), or send the rest by "
    "self.replace(...). If workers of other queues surely run it: {allowed}"
)


class _Codec(Protocol):
    def load_result(self, wire: object) -> object: ...


def _refuse_in_task(wait: str, allowed: str) -> None:
    try:
        assert_will_not_block()
    except RuntimeError:
        # Celery's text is about get().
        raise RuntimeError(_IN_A_TASK.format(wait=wait, allowed=allowed)) from None


class TypedResult(StatefulResult[R_co]):
    """The result of a task, which can be awaited, of the type that the task's function returns.

    Whoever reads it gets that type: ``get()``, ``await``, ``result``, a group's ``get()``. The
    task has to be registered in the reader's app; else, and where the result was made of an id alone
    (``app.AsyncResult(id)``), values are as JSON has them.
    """

    _task_name: str | None = None

    def __init__(
        self,
        id: str,  # noqa: A002
        backend: Backend | None = None,
        task_name: str | None = None,
        app: Celery | None = None,
        parent: ResultBase | None = None,
    ) -> None:
        super().__init__(id, backend, task_name, app, parent)
        self._task_name = task_name

    async def aget(
        self,
        timeout: float | None = None,
        *,
        propagate: bool = True,
        interval: float = 0.5,
        disable_sync_subtasks: bool = True,
    ) -> R_co:
        """Wait for the task without blocking the event loop; ``await result`` does the same.

        Args:
            timeout: Seconds; None waits for ever.
            propagate: Raise what the task, or one before it in its chain, has raised. Else that
                exception is returned.
            interval: The longest pause between two polls of the result backend, in seconds.
            disable_sync_subtasks: Refuse to wait within a task, as ``get()`` does: where all
                workers wait, none is left to run what they wait for.

        Raises:
            celery.exceptions.TimeoutError: It took longer than `timeout`.
            TaskResultError: The worker's result is not what the function here returns.
        """
        check_seconds("timeout", timeout)
        check_seconds("interval", interval)
        if self.ignored:
            return cast("R_co", None)
        if disable_sync_subtasks:
            _refuse_in_task("await the result", "await result.aget(disable_sync_subtasks=False)")
        if self._cache is None and timeout is not None and timeout <= 0:
            with waiting(timeout):
                ended = await in_thread(functools.partial(self._look, propagate=propagate))
            if not ended:
                raise CeleryTimeoutError("The operation timed out.")
        elif self._cache is None:
            try:
                async with asyncio.timeout(timeout):
                    await self._wait(propagate=propagate, interval=interval)
            except TimeoutError:
                raise CeleryTimeoutError("The operation timed out.") from None
        return self.get(propagate=propagate, disable_sync_subtasks=False, follow_parents=False)

    def progress(
        self,
        kind: type[T],
        *,
        timeout: float | None = None,
        interval: float = 0.5,
        disable_sync_subtasks: bool = True,
    ) -> AsyncGenerator[T]:
        """What the task reports while it runs: ``async for progress in result.progress(Progress)``.

        The first one is the newest that there is. The iteration ends with the task, also if it fails
        or is revoked; then ``await result`` returns its result at once, or raises its error. Who reads
        slowly gets the newest report each time.

        Args:
            kind: What the task reports: a model, a dataclass or a TypedDict.
            timeout: Seconds for all of it; None waits for ever.
            interval: The longest pause between two polls of a result backend that is not Redis, in
                seconds.
            disable_sync_subtasks: Refuse to wait within a task, as ``get()`` does.

        Raises:
            ConfigurationError: `kind` is a type that cannot be sent.
            TaskResultError: The task has reported something else.
            celery.exceptions.TimeoutError: It took longer than `timeout`.
        """
        check_seconds("timeout", timeout)
        check_seconds("interval", interval)
        if disable_sync_subtasks:
            _refuse_in_task(
                "wait for the progress", "result.progress(..., disable_sync_subtasks=False)"
            )
        load = progress_loader(self._task_name or "The task", kind)
        return watch_progress(self, load, timeout=timeout, interval=interval)

    async def _wait(self, *, propagate: bool, interval: float) -> None:
        """Wait for the end of the task, or for a failure before it in its chain that is raised."""
        subscriptions = await subscriptions_of(self)
        if subscriptions is None:
            pause = min(_FIRST_PAUSE, interval)
            # A thread polls, and none waits in between: sending tasks needs the same threads.
            while not await in_thread(functools.partial(self._look, propagate=propagate)):
                await asyncio.sleep(pause)
                pause = min(pause * _SLOWER, interval)
            return
        results = [self, *(tasks_before(self) if propagate else ())]
        ends = {subscriptions.subscribe(result.id): result for result in results}
        try:
            waiting = set(ends)
            while self._cache is None:
                ended, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for end in ended:
                    keep_outcome(ends[end], end.result())
                    if ends[end] is not self:
                        ends[end].maybe_throw()
        finally:
            for end, result in ends.items():
                subscriptions.unsubscribe(result.id, end)

    def __await__(self) -> Generator[object, None, R_co]:
        return self.aget().__await__()

    def _look(self, *, propagate: bool) -> bool:
        if propagate and self.parent is not None:
            raise_error_of_parents(self)
        return self.ready()

    if TYPE_CHECKING:

        @property
        @override
        def info(self) -> object: ...
        @property
        @override
        def args(self) -> tuple[object, ...] | None: ...
        @property
        @override
        def kwargs(self) -> Mapping[str, object] | None: ...
        @property
        @override
        def children(self) -> list[ResultBase] | None: ...  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]

    else:

        def get(self, timeout=None, *args, **kwargs):
            with waiting(timeout):
                return super().get(timeout, *args, **kwargs)

        def forget(self):
            with reading(self.backend):
                super().forget()

        def _get_task_meta(self):
            with reading(self.backend):
                return super()._get_task_meta()

        def _set_cache(self, d):
            # Every reader calls this: get(), ready(), result, and the join of a group.
            if d["status"] == states.SUCCESS:
                codec = _codec_of(self.app, self._task_name)
                if codec is not None:
                    d = _loaded(d, codec)
            return super()._set_cache(d)

        def __copy__(self):
            return self.__class__(self.id, self.backend, self._task_name, self.app, self.parent)

        def __reduce_args__(self):
            return self.id, self.backend, self._task_name, None, self.parent


def _codec_of(app: Celery, task_name: str | None) -> _Codec | None:
    task: object = None if task_name is None else app.tasks.get(task_name)
    return getattr(task, "_tomskit_codec", None)


def _loaded(meta: dict[str, object], codec: _Codec) -> dict[str, object]:
    try:
        return {**meta, "result": codec.load_result(meta["result"])}
    except TaskResultError as exc:
        # Not raised here, where the results of other tasks may be read as well: get() raises it.
        return {**meta, "status": states.FAILURE, "result": exc}


class TypedEagerResult(EagerResult[R_co], TypedResult[R_co]):  # pyright: ignore[reportIncompatibleMethodOverride]
    """The result of a task that ran where it was called."""

    @override
    async def aget(
        self,
        timeout: float | None = None,
        *,
        propagate: bool = True,
        interval: float = 0.5,
        disable_sync_subtasks: bool = True,
    ) -> R_co:
        return self.get(propagate=propagate, disable_sync_subtasks=disable_sync_subtasks)


def as_typed(result: object, task_name: str) -> Any:
    """The result that a task class of a user's has made, as one that can be awaited.

    It stays of the class that it is of. What is no result stays as it is.
    """
    kind: type = type(result)
    if _is_untyped(kind):
        made: Any = result
        made.__class__ = _typed_class(kind)
        vars(made)["_task_name"] = task_name
    return result


def _is_untyped(kind: type) -> bool:
    return issubclass(kind, AsyncResult) and not issubclass(kind, TypedResult)


_typed_classes: Final[dict[type, type[TypedResult[Any]]]] = {}


def _typed_class(kind: type) -> type[TypedResult[Any]]:
    is_eager = issubclass(kind, EagerResult)
    typed: type[TypedResult[Any]] = TypedEagerResult if is_eager else TypedResult
    if issubclass(typed, kind):
        return typed
    if kind not in _typed_classes:
        members: dict[str, object] = {
            "__module__": kind.__module__,
            "__qualname__": kind.__qualname__,
            "__doc__": kind.__doc__,
            "__reduce_ex__": _reduce,
        }
        bases: tuple[type, ...] = (kind, typed)
        made: Any = type(str(kind.__name__), bases, members)
        _typed_classes[kind] = made
    return _typed_classes[kind]


def _reduce(self: Any, _: int) -> tuple[object, ...]:
    # By its name pickle would find the class without what is added here.
    return _make_typed, (type(self).__bases__[0], *self.__reduce_args__())


def _make_typed(kind: type, *arguments: Any) -> TypedResult[Any]:
    return _typed_class(kind)(*arguments)
