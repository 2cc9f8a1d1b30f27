"""Results of several tasks, which can be awaited together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, cast

from celery import current_app, states  # pyright: ignore[reportUnusedImport]
from celery.result import AsyncResult, GroupResult, ResultSet
from typing_extensions import override

from tomskit.celery._client.ignored import is_ignored
from tomskit.celery._client.quiet_backend import without_subscribing
from tomskit.celery._client.result import TypedResult
from tomskit.celery._client.states import StatefulSet
from tomskit.celery._client.waiting import reading, waiting
from tomskit.celery._internals.celery_results import kept_outcome

if TYPE_CHECKING:
    from celery import Celery
    from celery.backends.base import Backend
    from celery.result import ResultBase

__all__ = ("TypedGroupResult", "TypedResultSet")

R_co = TypeVar("R_co", covariant=True)


class _Awaitable(Protocol):
    async def aget(
        self,
        timeout: float | None = None,
        *,
        propagate: bool = True,
        interval: float = 0.5,
        disable_sync_subtasks: bool = True,
    ) -> Any: ...


class TypedResultSet(StatefulSet, Generic[R_co]):
    """Results of tasks that were sent one by one, in the order in which they were given."""

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

        def __init__(self, *args, **kwargs):
            # Celery subscribes to each of them now. We do where they are waited for.
            with without_subscribing():
                super().__init__(*args, **kwargs)

        def add(self, result):
            with without_subscribing():
                super().add(result)

        @property
        def supports_native_join(self):
            # Celery asks the first member, which may be one without a result.
            expected = (result for result in self.results if not is_ignored(result))
            return getattr(next(expected, None), "supports_native_join", False)

        def join_native(self, timeout=None, *args, **kwargs):
            with waiting(timeout):
                return super().join_native(timeout, *args, **kwargs)

        def join(self, timeout=None, *args, **kwargs):
            with waiting(timeout):
                return super().join(timeout, *args, **kwargs)

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
            return TypedResultSet(members, app=self.app)

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


class TypedGroupResult(TypedResultSet[R_co], GroupResult):
    """The results of a group, in its order."""

    if TYPE_CHECKING:

        @override
        @classmethod
        def restore(  # type: ignore[override]  # Celery's types leave out the None
            cls,
            id: str,
            backend: Backend | None = None,
            app: Celery | None = None,
        ) -> Self | None: ...

    else:

        @classmethod
        def restore(cls, id, backend=None, app=None):  # noqa: A002, ANN206
            app = app or (current_app if isinstance(cls.app, property) else cls.app)
            backend = backend or app.backend
            with reading(backend):
                return super().restore(id, backend, app)

        def delete(self, backend=None):
            with reading(backend or self.app.backend):
                super().delete(backend)


def _awaitable(result: ResultBase) -> _Awaitable:
    """The same result; that of a plain task, or of a group of these, as one that can be awaited."""
    if isinstance(result, TypedResult | TypedResultSet):
        return cast("_Awaitable", result)
    if isinstance(result, ResultSet):
        made: TypedResultSet[object] = TypedResultSet(result.results or [], app=result.app)
        return made
    assert isinstance(result, AsyncResult)  # noqa: S101 (Celery has no others)
    one: TypedResult[object] = TypedResult(
        result.id, result.backend, app=result.app, parent=result.parent
    )
    one.ignored = result.ignored
    return one
