"""TaskApp: how an app makes its tasks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Literal,
    Never,
    ParamSpec,
    Protocol,
    TypeVar,
    Unpack,
    overload,
)

from celery import Task
from typing_extensions import override

from tomskit.celery._app import AsyncApp
from tomskit.celery._internals.celery_app import class_of_tasks
from tomskit.celery._internals.celery_tasks import made_once
from tomskit.celery._internals.refusals import RefusedTasksError
from tomskit.celery._running.forks import ForkLock
from tomskit.celery._running.gate import gate
from tomskit.celery._tasks.bases import async_class
from tomskit.celery._tasks.body import runs_lean
from tomskit.celery._tasks.contained import ContainedTask
from tomskit.celery._tasks.decorator import PeriodicBinding, PeriodicFunction, make_task
from tomskit.celery._tasks.forking import end_strays, watch_methods
from tomskit.celery._tasks.functions import is_async, is_task
from tomskit.celery._tasks.hooks import await_hooks
from tomskit.celery._tasks.periodic import Every, Periodic, check_every, complete_schedule, declare
from tomskit.celery._tasks.task import AsyncTask
from tomskit.celery.options import AppTaskOptions

if TYPE_CHECKING:
    from celery.app.registry import TaskRegistry
    from celery.app.utils import Settings

__all__ = ("TaskApp",)

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class _PlainPeriodicFunction(Protocol[P, R_co]):
    @overload
    def __call__(self) -> R_co: ...
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


class _PlainPeriodicBinding(Protocol[P, R_co]):
    @overload
    def __call__(self, task: Task[..., Never], /) -> R_co: ...
    @overload
    def __call__(self, task: Task[..., Never], /, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


class _Decorator(Protocol):
    @overload
    def __call__(self, func: Callable[P, Coroutine[object, Never, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, func: Callable[P, R], /) -> Task[P, R]: ...


class _BindingDecorator(Protocol):
    @overload
    def __call__(
        self,
        func: Callable[Concatenate[AsyncTask[..., Never], P], Coroutine[object, Never, R]],
        /,
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, func: Callable[Concatenate[Task[..., Never], P], R], /) -> Task[P, R]: ...


class _PeriodicDecorator(Protocol):
    @overload
    def __call__(self, func: PeriodicFunction[P, R], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, func: _PlainPeriodicFunction[P, R], /) -> Task[P, R]: ...


class _PeriodicBindingDecorator(Protocol):
    @overload
    def __call__(self, func: PeriodicBinding[P, R], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, func: _PlainPeriodicBinding[P, R], /) -> Task[P, R]: ...


class TaskApp(AsyncApp):
    """An app that makes asynchronous tasks of coroutine functions, and Celery's own of plain ones.

    Threads that are together the first to use its tasks wait until one of them has made them.
    """

    _async_class: tuple[type[object], type[AsyncTask[..., object]]] | None = None
    _refusal: str | None = None
    _is_configured = False
    """Whether the configuration is there, with what is added to it when it has been read."""
    _is_finalizing = False
    _has_all_tasks = False

    def __init__(self, *args: object, **kwargs: object) -> None:
        self._configuring = ForkLock(is_brief=True)
        super().__init__(*args, **kwargs)
        self._finalize_mutex = ForkLock(is_brief=True)

    @overload  # type: ignore[override]
    def task(self, func: Callable[P, Coroutine[object, Never, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def task(self, func: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self, *, bind: Literal[True], every: Every, **options: Unpack[AppTaskOptions]
    ) -> _PeriodicBindingDecorator: ...
    @overload
    def task(
        self, *, bind: Literal[False] = False, every: Every, **options: Unpack[AppTaskOptions]
    ) -> _PeriodicDecorator: ...
    @overload
    def task(
        self, *, bind: Literal[True], **options: Unpack[AppTaskOptions]
    ) -> _BindingDecorator: ...
    @overload
    def task(
        self, *, bind: Literal[False] = False, **options: Unpack[AppTaskOptions]
    ) -> _Decorator: ...
    @overload
    def task(
        self,
        *,
        base: type[object],
        bind: Literal[True],
        every: Every | None = None,
        **options: object,
    ) -> _BindingDecorator: ...
    @overload
    def task(
        self,
        *,
        base: type[object],
        bind: Literal[False] = False,
        every: Every | None = None,
        **options: object,
    ) -> _Decorator: ...
    @override
    def task(self, *found: object, **options: Any) -> object:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Make a task of this app.

        Used bare or with any option of Celery's. A coroutine function becomes the same as with
        `async_shared_task`, a plain function Celery's own task.

        Args:
            *found: The function, when used without parentheses.
            bind: Pass the task itself to the function as its first argument.
            every: As of `async_shared_task`.
            base: As of `async_shared_task`; for a plain function it has to be a subclass of Task.
            **options: See `AppTaskOptions`.

        Raises:
            NotACoroutineFunctionError: An asynchronous generator, or a class method.
            ConfigurationError: The function takes ``self``, and ``bind=True`` is missing; or it has
                no name that the task could have.
            TypeError: As of `async_shared_task`.
            ValueError: As of `async_shared_task`.
        """
        create: Any = super().task

        def create_once(**given: object) -> Callable[[object], object]:
            make: Callable[[object], object] = create(**given)
            return lambda function: made_once(make(function), self._making)

        decorate = partial(_make, self, create_once, options)
        if len(found) > 1:
            raise TypeError(
                f"task() takes one function, and options by keyword; {len(found)} given"
            )
        return decorate(found[0]) if found else decorate

    @override
    def register_task(self, task: Any, **options: Any) -> Any:
        """Register a task of a class; as of ``celery.Celery``.

        Raises:
            ConfigurationError: Its ``run`` is a coroutine function, and its class no AsyncTask.
        """
        _check_class(task)
        registered: Any = super().register_task(task, **options)
        _complete(registered)
        return registered

    @override
    def finalize(self, auto: bool = False) -> None:
        """Make all tasks; as of ``celery.Celery``.

        Raises:
            ConfigurationError: One of them is a coroutine function that Celery would not await.
        """
        if self._refusal is not None:
            # At each use: an app that lacks some of its tasks is none.
            raise RefusedTasksError(self._refusal)
        with self._making():
            if self._is_finalizing:  # a task that is made uses others
                return
            self._is_finalizing = True
            try:
                super().finalize(auto)
                for task in self._tasks.values():
                    _check_class(task)
            except RefusedTasksError as exc:
                self._refusal = str(exc)
                raise
            finally:
                self._is_finalizing = False
            complete_schedule(self)
            self._has_all_tasks = True

    @property
    @override
    def tasks(self) -> TaskRegistry:
        """All tasks, by their names; as of ``celery.Celery``.

        Raises:
            ConfigurationError: As of `finalize`.
        """
        # Celery remembers a registry that a task has asked for while the others were made.
        if not self._has_all_tasks:
            self.finalize(auto=True)
        return self._tasks

    @override
    def _load_config(self) -> Settings:
        # Other threads see the settings before they are complete.
        with self._configuring:
            self._is_configured = False
            settings = super()._load_config()
            self._is_configured = True
        return settings

    @contextmanager
    def _making(self) -> Generator[None]:
        """Keep other threads from making tasks, which have settings as their defaults."""
        if not self._is_configured:
            # First: code that is called with the configuration makes tasks.
            self.conf.finalize()
            with self._configuring:
                pass
        with self._finalize_mutex:
            yield

    @override
    def _task_from_fun(  # type: ignore[override]
        self,
        fun: Callable[..., object],
        name: str | None = None,
        base: type[Task[..., Any]] | None = None,
        bind: bool = False,
        **options: Any,
    ) -> Task[..., Any]:
        with self._making():
            return self._make_task(fun, name, base, bind, options)

    def _make_task(
        self,
        fun: Callable[..., object],
        name: str | None,
        base: type[Task[..., Any]] | None,
        bind: bool,
        options: dict[str, Any],
    ) -> Task[..., Any]:
        if "_tomskit_function" in options:
            base = self._async_task() if base is AsyncTask else base
        else:
            name = name or self.gen_task_name(fun.__name__, fun.__module__)
            if is_async(fun):
                raise RefusedTasksError(
                    f"The task {name} is async def, and Celery does not await it: decorate it with "
                    "@async_shared_task of tomskit.celery, or with @app.task of an AsyncCelery."
                )
            base = _plain_base(base or class_of_tasks(self), name)
        task = super()._task_from_fun(fun, name=name, base=base, bind=bind, **options)
        _complete(task)
        return task

    def _async_task(self) -> type[AsyncTask[..., object]]:
        """The class of asynchronous tasks, with the app's own task class as its base."""
        base = class_of_tasks(self)
        if self._async_class is None or self._async_class[0] is not base:
            self._async_class = base, async_class(base)
        return self._async_class[1]


def _complete(task: Any) -> None:
    await_hooks(task.__class__)
    if not issubclass(task.__class__, AsyncTask):
        end_strays(task)
    elif not runs_lean(task):
        watch_methods(task)
    gate.tasks.add(task.name)


def _make(
    app: TaskApp, create: Callable[..., Any], options: dict[str, Any], function: Any
) -> object:
    """Make a task with Celery's decorator."""
    if is_async(function) or is_task(function):
        return make_task(create, function, options, app)
    if not callable(function):
        raise TypeError(f"task() takes a function, not {function!r}.")
    if not hasattr(function, "__name__"):
        raise TypeError(
            f"Celery makes no task of {function!r}, which has no __name__: define a function with "
            "def that calls it."
        )
    given = dict(options)
    every: Every | None = given.pop("every", None)
    if every is None:
        return create(**given)(function)
    name: str | None = given.get("name")
    module, own_name = function.__module__, function.__name__
    bind: bool = given.get("bind", False)
    check_every(every, function, name=name or f"{module}.{own_name}", bind=bind)
    made: object = create(**given)(function)
    declare(Periodic(name, module, own_name, every), app)
    return made


def _plain_base(base: type[Task[..., Any]], name: str) -> type[Task[..., Any]]:
    if not issubclass(base, AsyncTask):
        return base
    if name.startswith("celery."):
        # Celery's own tasks are made with the class of the app, whatever that is for.
        return ContainedTask
    raise RefusedTasksError(
        f"The task {name} is a plain function, and its class {base.__qualname__} is an AsyncTask: "
        "derive that from celery.Task; coroutine functions make an AsyncTask of it by themselves."
    )


def _check_class(task: Any) -> None:
    found: object = task
    kind = found if isinstance(found, type) else type(found)
    # Of the class: Celery replaces the method of a task that retries by itself.
    awaited = next(
        (
            one
            for one in ("run", "__call__")
            if inspect.iscoroutinefunction(getattr(kind, one, None))
        ),
        None,
    )
    if awaited is None and not inspect.isasyncgenfunction(getattr(kind, "run", None)):
        return
    name: str | None = getattr(task, "name", None)
    name = name or f"{kind.__module__}.{kind.__name__}"
    way_out = (
        "define it with def"
        if awaited == "__call__"
        else f"derive its class from AsyncTask, as in class {kind.__name__}(AsyncTask[..., object])"
    )
    raise RefusedTasksError(
        f"The method {awaited or 'run'} of the task {name} is async def, and Celery does not await "
        f"it: {way_out}."
    )
