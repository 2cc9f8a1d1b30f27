"""TaskProxy: the name that `async_shared_task` puts in the place of a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.local import Proxy
from typing_extensions import override

from tomskit.celery._client.result import TypedEagerResult, TypedResult
from tomskit.celery._internals.celery import current_app
from tomskit.celery._internals.celery_tasks import target_of
from tomskit.celery._tasks.call_arguments import caller_arguments
from tomskit.celery._tasks.task import AsyncTask
from tomskit.celery._values.parameters import parameters_of

__all__ = ("TaskProxy",)

if TYPE_CHECKING:
    _Proxy = Proxy[AsyncTask[..., object]]
else:
    _Proxy = Proxy


class _CallerMethod:
    """A method of a proxy that takes values from a caller, rather than wire forms from a message.

    What a test or a tracing library has put in the method's place on the task comes first.
    """

    def __init__(self, function: FunctionType) -> None:
        self._function = function

    def __get__(self, proxy: TaskProxy | None, owner: type[TaskProxy] | None = None) -> object:
        if proxy is None:
            return self._function
        name = self._function.__name__
        replaced = vars(target_of(proxy))
        return replaced[name] if name in replaced else MethodType(self._function, proxy)


def _of_class(task: AsyncTask[..., object], name: str) -> Callable[..., object]:
    """A method as the task's class has it.

    Whoever replaces the method on the task may call the method of the proxy, which must not call
    the replacement again.
    """
    found: Any = getattr(type(task), name)
    return MethodType(found, task) if isinstance(found, FunctionType) else found


class TaskProxy(_Proxy):
    """The current app's task; its name, docstring and signature are there without an app.

    Celery's own proxy makes a default app for a mere ``isinstance`` at import time and looks the
    task up at each access of an attribute (2 us); this one remembers the task of the current app.

    Args:
        function: The coroutine function.
        bind: Whether the function's first parameter is the task.
        find_task: Finds the task in the current app.
        kind: The class of the task, as far as it does not depend on the app.
    """

    __slots__ = ("_bind", "_find_task", "_found", "_function", "_kind")

    _function: Callable[..., object]
    _bind: bool
    _find_task: Callable[[], AsyncTask[..., object]]
    _found: tuple[Celery, AsyncTask[..., object]] | None
    _kind: type[AsyncTask[..., object]]

    def __init__(
        self,
        function: Callable[..., object],
        *,
        bind: bool,
        find_task: Callable[[], AsyncTask[..., object]],
        kind: type[AsyncTask[..., object]],
    ) -> None:
        super().__init__(self._get_current_object, name=function.__name__)
        # Attributes that are set on a proxy are set on the task.
        set_own = functools.partial(object.__setattr__, self)
        set_own("_function", function)
        set_own("_bind", bind)
        set_own("_find_task", find_task)
        set_own("_found", None)
        set_own("_kind", kind)

    @override
    def _get_current_object(self) -> AsyncTask[..., object]:
        app, found = current_app(), self._found
        # As one object: another thread may have another app.
        if found is None or found[0] is not app:
            found = app, self._find_task()
            object.__setattr__(self, "_found", found)
        return found[1]

    @override
    def __setattr__(self, name: str, value: object) -> None:
        task = self._get_current_object()
        if isinstance(value, MethodType) and value.__self__ is self:
            # monkeypatch.setattr puts back what it read here. There was nothing on the task itself.
            vars(task).pop(name, None)
        else:
            setattr(task, name, value)

    if not TYPE_CHECKING:

        @_CallerMethod
        def apply_async(
            self,
            args: Iterable[object] | None = None,
            kwargs: Mapping[str, object] | None = None,
            *rest: object,
            **options: object,
        ) -> TypedResult[object]:
            task = self._get_current_object()
            send = _of_class(task, "apply_async")
            return send(*caller_arguments(task.name, args, kwargs), *rest, **options)

        @_CallerMethod
        async def aapply_async(
            self,
            args: Iterable[object] | None = None,
            kwargs: Mapping[str, object] | None = None,
            **options: object,
        ) -> TypedResult[object]:
            task = self._get_current_object()
            send = _of_class(task, "aapply_async")
            return await send(*caller_arguments(task.name, args, kwargs), **options)

        @_CallerMethod
        def apply(
            self,
            args: Iterable[object] | None = None,
            kwargs: Mapping[str, object] | None = None,
            *rest: object,
            **options: object,
        ) -> TypedEagerResult[object]:
            task = self._get_current_object()
            run = _of_class(task, "apply")
            return run(*caller_arguments(task.name, args, kwargs), *rest, **options)

        @property
        def __class__(self) -> type[AsyncTask[..., object]]:
            return self._kind

        @property
        def __doc__(self) -> str | None:
            return self._function.__doc__

        @property
        def __module__(self) -> str:
            return self._function.__module__

        @property
        def __signature__(self) -> inspect.Signature:
            signature = inspect.signature(self._function)
            return signature.replace(parameters=parameters_of(self._function, bind=self._bind))

        @property
        def __wrapped__(self) -> Callable[..., object]:
            return self._function
