"""async_shared_task: makes a task of an ``async def`` function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Literal, Never, ParamSpec, Protocol, TypeVar, Unpack, overload

from celery import Celery
from celery.local import Proxy

from tomskit.celery._internals.celery_tasks import shared_task, target_of
from tomskit.celery._tasks.bases import async_class
from tomskit.celery._tasks.body import bodies_of, members_of
from tomskit.celery._tasks.functions import coroutine_function
from tomskit.celery._tasks.option_values import check_values
from tomskit.celery._tasks.periodic import EVERY, Every, Periodic, check_every, declare
from tomskit.celery._tasks.proxy import TaskProxy
from tomskit.celery._tasks.task import AsyncTask
from tomskit.celery._tasks.unknown_options import check_options
from tomskit.celery.options import TaskOptions
from tomskit.errors import ConfigurationError

__all__ = ("PeriodicBinding", "PeriodicFunction", "async_shared_task", "make_task")

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class PeriodicFunction(Protocol[P, R_co]):
    """A coroutine function that can be called without arguments."""

    @overload
    def __call__(self) -> Coroutine[object, Never, R_co]: ...
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[object, Never, R_co]: ...


class PeriodicBinding(Protocol[P, R_co]):
    """A coroutine function that can be called with the task as its only argument."""

    @overload
    def __call__(self, task: AsyncTask[..., Never], /) -> Coroutine[object, Never, R_co]: ...
    @overload
    def __call__(
        self, task: AsyncTask[..., Never], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[object, Never, R_co]: ...


class _Decorator(Protocol):
    def __call__(self, func: Callable[P, Coroutine[object, Never, R]], /) -> AsyncTask[P, R]: ...


class _BindingDecorator(Protocol):
    def __call__(
        self,
        func: Callable[Concatenate[AsyncTask[..., Never], P], Coroutine[object, Never, R]],
        /,
    ) -> AsyncTask[P, R]: ...


class _PeriodicDecorator(Protocol):
    def __call__(self, func: PeriodicFunction[P, R], /) -> AsyncTask[P, R]: ...


class _PeriodicBindingDecorator(Protocol):
    def __call__(self, func: PeriodicBinding[P, R], /) -> AsyncTask[P, R]: ...


@overload
def async_shared_task(func: Callable[P, Coroutine[object, Never, R]], /) -> AsyncTask[P, R]: ...
@overload
def async_shared_task(
    *, bind: Literal[True], every: Every, **options: Unpack[TaskOptions]
) -> _PeriodicBindingDecorator: ...
@overload
def async_shared_task(
    *, bind: Literal[False] = False, every: Every, **options: Unpack[TaskOptions]
) -> _PeriodicDecorator: ...
@overload
def async_shared_task(
    *, bind: Literal[True], **options: Unpack[TaskOptions]
) -> _BindingDecorator: ...
@overload
def async_shared_task(
    *, bind: Literal[False] = False, **options: Unpack[TaskOptions]
) -> _Decorator: ...
@overload
def async_shared_task(
    *,
    base: type[object],
    bind: Literal[True],
    every: Every | None = None,
    **options: object,
) -> _BindingDecorator: ...
@overload
def async_shared_task(
    *,
    base: type[object],
    bind: Literal[False] = False,
    every: Every | None = None,
    **options: object,
) -> _Decorator: ...
def async_shared_task(
    func: Callable[..., Coroutine[object, Never, object]] | None = None,
    /,
    **options: object,
) -> object:
    """Make a Celery task of an ``async def`` function, for whichever app is current.

    Used bare or with any option of ``shared_task``. The task runs on the app's runtime; ``.delay``,
    ``.s``, ``.apply_async``, retries, chains, groups, time limits and the rest are Celery's.

    Args:
        func: The coroutine function, when used without parentheses.
        bind: Pass the task itself to the function as its first argument.
        every: How often beat sends the task, which has to need no arguments: seconds, a timedelta,
            or a schedule such as ``crontab(hour=3)``. An entry of ``beat_schedule`` with the task's
            name takes its place.
        base: A task class, whose methods and hooks the task gets. Options that it declares, or that its
            methods read, are attributes of the task, as with Celery. Its hooks may be ``async def``.
        **options: See `TaskOptions`.

    Raises:
        NotACoroutineFunctionError: The function is not ``async def``.
        ConfigurationError: The function takes ``self``, and ``bind=True`` is missing; or it has no
            name that the task could have.
        TypeError: `every` is no schedule, or the function needs an argument; or `base` is no class
            that goes together with AsyncTask; or an option is one that nobody reads.
        ValueError: `every` is no time that could pass.
    """

    def decorate(function: object) -> object:
        return make_task(shared_task, function, options)

    return decorate if func is None else decorate(func)


def make_task(
    create: Callable[..., Callable[[Callable[..., object]], object]],
    found: object,
    options: dict[str, object],
    app: Celery | None = None,
) -> object:
    """Make a task of what a decorator was put on.

    Args:
        create: Celery's decorator.
        found: A coroutine function, or what can be called like one.
        options: Of the task.
        app: The only one to have it, if it is one app's.
    """
    given: dict[str, Any] = dict(options)
    bind: bool = given.pop("bind", False)
    base: object = given.pop("base", None) or AsyncTask
    every: Every | None = given.pop("every", None)
    function = coroutine_function(found, name=given.get("name"), bind=bind)
    name: str = given.get("name") or f"{function.__module__}.{function.__name__}"
    if given.get("pydantic"):
        raise ConfigurationError(
            f"The task {name} has pydantic=True, which is Celery's for plain functions: leave it out, "
            "the annotations of a coroutine function are converted anyway."
        )
    check_values(options, base, name)
    never_retried = given.pop("dont_autoretry_for", getattr(base, "dont_autoretry_for", ()))
    members = members_of(function, name=name, bind=bind, never_retried=never_retried)
    if every is not None:
        check_every(every, function, name=name, bind=bind)
        if app is None:
            members[EVERY] = every
    # Celery deprecates it as a task's attribute; here it is a default for calls.
    members["_tomskit_queue"] = given.pop("queue", None)
    # celery-once has an attribute of that name, and bases of users may.
    if not hasattr(base, "once") and (once := given.pop("once", False)):
        members |= _commits_once(once, given, name)
    members |= bodies_of(function, members["_tomskit_codec"], bind=bind)
    body = members.pop("run")
    kind = async_class(base)
    check_options(given, kind, function, name)
    made: Any = create(base=kind, bind=True, **members, **given)(body)
    if every is not None:
        declare(Periodic(given.get("name"), function.__module__, function.__name__, every), app)
    find_task = functools.partial(_task_of, made)
    return TaskProxy(function, bind=bind, find_task=find_task, kind=kind)


def _commits_once(once: object, given: dict[str, Any], name: str) -> dict[str, Any]:
    """The attributes of a task with ``once=True``: its message is kept until it was committed."""
    if not isinstance(once, (bool, str)):
        raise TypeError(
            f"The task {name} has once={once!r}: it is True, or the name of the database's provider."
        )
    if given.pop("acks_late", True) is not True:
        raise ConfigurationError(
            f"The task {name} has once=True and acks_late=False: a message that is acknowledged early is "
            "lost with its worker, and the task would not run at all. Leave acks_late out."
        )
    lost = given.pop("reject_on_worker_lost", True)
    return {"_tomskit_once": once, "acks_late": True, "reject_on_worker_lost": lost}


def _task_of(
    made: Proxy[AsyncTask[..., object]] | AsyncTask[..., object],
) -> AsyncTask[..., object]:
    return target_of(made) if isinstance(made, Proxy) else made
