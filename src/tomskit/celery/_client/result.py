"""Results that know what the task's function returns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, cast

from celery import states
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, EagerResult, GroupResult
from typing_extensions import override

from tomskit.celery._client.client import subscriptions_of
from tomskit.celery._client.ignored import is_ignored
from tomskit.celery._client.progress import watch_progress
from tomskit.celery._client.states import StatefulGroup, StatefulResult, tasks_before
from tomskit.celery._client.threads import in_thread
from tomskit.celery._internals.celery import assert_will_not_block
from tomskit.celery._internals.celery_results import (
    keep_outcome,
    kept_outcome,
    raise_error_of_parents,
)
from tomskit.celery._values.progress import progress_loader
from tomskit.errors import TaskResultError

if TYPE_CHECKING:
    from celery import Celery
    from celery.backends.base import Backend
    from celery.result import ResultBase

__all__ = ("TypedEagerResult", "TypedGroupResult", "TypedResult")

R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")

_FIRST_PAUSE: Final = 0.01
"""Seconds."""
_SLOWER: Final = 1.5


class _Codec(Protocol):
    def load_result(self, wire: object) -> object: ...


class _Awaitable(Protocol):
    async def aget(
        self,
        timeout: float | None = None,
        *,
        propagate: bool = True,
        interval: float = 0.5,
        disable_sync_subtasks: bool = True,
    ) -> Any: ...


class TypedResult(StatefulResult[R_co]):
    """The result of an async task, of the type that its function returns.

    Whoever reads it gets that type: ``get()``, ``await``, ``result``, a group's ``get()``. The
    task has to be registered in the reader's app; else values are as JSON has them.
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
        if self.ignored:
            return cast("R_co", None)
        if disable_sync_subtasks:
            assert_will_not_block()
        if self._cache is None and timeout is not None and timeout <= 0:
            if not await in_thread(partial(self._look, propagate=propagate)):
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
        if disable_sync_subtasks:
            assert_will_not_block()
        load = progress_loader(self._task_name or "The task", kind)
        return watch_progress(self, load, timeout=timeout, interval=interval)

    async def _wait(self, *, propagate: bool, interval: float) -> None:
        """Wait for the end of the task, or for a failure before it in its chain that is raised."""
        subscriptions = await subscriptions_of(self)
        if subscriptions is None:
            pause = min(_FIRST_PAUSE, interval)
            # A thread polls, and none waits in between: sending tasks needs the same threads.
            while not await in_thread(partial(self._look, propagate=propagate)):
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


class TypedGroupResult(StatefulGroup, Generic[R_co]):
    """The results of a group, in its order."""

    if TYPE_CHECKING:

        @override
        def __getitem__(self, index: int) -> TypedResult[R_co]: ...
        @override
        def __iter__(self) -> Iterator[TypedResult[R_co]]: ...
        @override
        def get(
            self,
            timeout: float | None = None,
            propagate: bool = True,
            interval: float = 0.5,
            callback: Callable[[str, R_co], object] | None = None,
            no_ack: bool = True,
            on_message: Callable[..., object] | None = None,
            disable_sync_subtasks: bool = True,
            on_interval: Callable[..., object] | None = None,
        ) -> list[R_co]: ...
        @override
        def join(
            self,
            timeout: float | None = None,
            propagate: bool = True,
            interval: float = 0.5,
            callback: Callable[[str, R_co], object] | None = None,
            no_ack: bool = True,
            on_message: Callable[..., object] | None = None,
            disable_sync_subtasks: bool = True,
            on_interval: Callable[..., object] | None = None,
        ) -> list[R_co]: ...
        @override
        def join_native(
            self,
            timeout: float | None = None,
            propagate: bool = True,
            interval: float = 0.5,
            callback: Callable[[str, R_co], object] | None = None,
            no_ack: bool = True,
            on_message: Callable[..., object] | None = None,
            on_interval: Callable[..., object] | None = None,
            disable_sync_subtasks: bool = True,
        ) -> list[R_co]: ...

    else:

        @property
        def supports_native_join(self):
            # Celery asks the first member, which may be one without a result.
            expected = (result for result in self.results if not is_ignored(result))
            return getattr(next(expected, None), "supports_native_join", False)

        def iter_native(self, timeout=None, *args, **kwargs):
            expected = [one for one in self.results if isinstance(one, AsyncResult)]
            groups = [one for one in self.results if isinstance(one, GroupResult)]
            for member in expected:
                if is_ignored(member):
                    yield member.id, {"status": states.SUCCESS, "result": None}
            expected = [one for one in expected if not is_ignored(one)]
            if len(expected) == len(self.results):
                yield from self._iter_own(timeout, *args, **kwargs)
                return
            end = None if timeout is None else time.monotonic() + timeout
            if expected:
                rest = self._with_members(expected)
                yield from rest.iter_native(timeout, *args, **kwargs)
            for nested in groups:
                left = None if end is None else max(end - time.monotonic(), 0.0)
                # Celery reads the values of these from the results themselves.
                for _ in _awaitable(nested).iter_native(left, *args, **kwargs):
                    pass
                yield nested.id, nested.results

        def _with_members(self, members):
            return TypedGroupResult(self.id, members, parent=self.parent, app=self.app)

        def _iter_own(self, *args, **kwargs):
            # Backends that do not push results return them as they have read them.
            members = {result.id: result for result in self.results}
            for member in self.results:
                # Celery does that when it sends them; adelay() does not.
                self.backend.add_pending_result(member)
            for task_id, meta in super().iter_native(*args, **kwargs):
                member = members.get(task_id)
                if isinstance(member, TypedResult) and isinstance(meta, dict):
                    meta = kept_outcome(member, meta)  # noqa: PLW2901
                yield task_id, meta

    async def aget(
        self,
        timeout: float | None = None,
        *,
        propagate: bool = True,
        interval: float = 0.5,
        disable_sync_subtasks: bool = True,
    ) -> list[R_co]:
        """Wait for all of them without blocking the event loop.

        Args:
            timeout: Seconds for all together; None waits for ever.
            propagate: Raise what one of them has raised. Else the exception is in the list.
            interval: The longest pause between two polls of the result backend, in seconds.
            disable_sync_subtasks: Refuse to wait within a task.

        Raises:
            celery.exceptions.TimeoutError: It took longer than `timeout`.
        """
        waiting = [
            asyncio.create_task(
                _awaitable(result).aget(
                    timeout,
                    propagate=propagate,
                    interval=interval,
                    disable_sync_subtasks=disable_sync_subtasks,
                )
            )
            for result in self
        ]
        try:
            values: list[R_co] = await asyncio.gather(*waiting)
            return values
        finally:
            for task in waiting:
                task.cancel()

    def __await__(self) -> Generator[object, None, list[R_co]]:
        return self.aget().__await__()


def _awaitable(result: ResultBase) -> _Awaitable:
    """The same result; that of a plain task, or of a group of these, as one that can be awaited."""
    if isinstance(result, TypedResult | TypedGroupResult):
        return cast("_Awaitable", result)
    if isinstance(result, GroupResult):
        members: list[AsyncResult[Any]] = result.results or []
        made: TypedGroupResult[object] = TypedGroupResult(
            result.id, members, parent=result.parent, app=result.app
        )
        return made
    assert isinstance(result, AsyncResult)  # noqa: S101 (Celery has no others)
    one: TypedResult[object] = TypedResult(
        result.id, result.backend, app=result.app, parent=result.parent
    )
    one.ignored = result.ignored
    return one
