"""Celery: how tasks and signatures are made.

`canvas._chain`
    For: joining signatures with ``|``, which makes this class and not ``celery.chain``.
    When it is missing: an import of tomskit.celery raises AttributeError.

`Task.__header__`
    For: telling an error callback that takes a request, an error and a traceback from one that takes
    an id. For Celery every task of ours is bound, and the header that it makes of a bound task is
    always one of the latter.
    When it is missing: error callbacks of the first kind get an id, silently.

`head_from_fun`
    For: making that header.
    When it is missing: an import of tomskit.celery raises ImportError.

`shared_task`, its options ``base`` and any attribute
    For: making the task of an async function for whichever app is current.
    When it is missing: decorating raises TypeError.

`Proxy._get_current_object`
    For: finding the task behind a decorated name.
    When it is missing: the first use of a decorated name raises AttributeError.

`PromiseProxy`, its `__evaluate__` and `__evaluated__`
    For: making a task once, where threads are together the first to use it. Celery makes one for each of
    them, or raises AttributeError in one while another takes apart what it is made of.
    When it is missing: Celery's proxy is used as it is.

`Task.override_max_retries`, which ``Task.retry`` sets and the wrapper of ``autoretry_for`` reads
    For: keeping the ``max_retries`` of one execution to it. Celery keeps that on the task object,
    which all executions share, and often leaves it there.
    When it is missing: nothing; Celery keeps it elsewhere.

`Task.apply_async`, what it does before it calls `apply` in eager mode: it checks the limits, calls
``__header__``, adds `_get_exec_options`, calls `_dump_pydantic_arguments` and serializes the arguments
    For: calling `apply` without the flag of the process that Celery sets around it.
    When it is missing: eager calls raise AttributeError. What Celery adds is left out in eager mode.

`_orig_run`, the attribute of a task in which the wrapper of ``autoretry_for`` finds its body
    For: ending a process that the body has forked before the wrapper sends a message in its parent's name.
    When it is missing: such a process sends that message, and then ends.

`celery.map`, `celery.starmap`, the names of Celery's own tasks
    For: converting the results of an async task that these call.
    When it is missing: such results stay as JSON has them, silently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

import celery
from celery import canvas
from celery.local import PromiseProxy
from celery.utils.functional import head_from_fun
from kombu import serialization
from typing_extensions import override

if TYPE_CHECKING:
    from celery.app.task import Task
    from celery.local import Proxy

__all__ = (
    "CALLS_OF_TASKS",
    "HEADER",
    "RETRIED",
    "ChainSignature",
    "OverriddenRetries",
    "eager_arguments",
    "head_from_fun",
    "made_once",
    "shared_task",
    "target_of",
)

T = TypeVar("T", bound="Task[..., Any]")

ChainSignature: TypeAlias = canvas._chain
"""What ``|`` makes of two signatures; ``celery.chain`` is a subclass, of which it makes none."""

HEADER: Final = "__header__"
"""The attribute of a task that holds a function with the parameters that its calls have to fit."""

RETRIED: Final = "_orig_run"
"""The attribute of a task with ``autoretry_for`` that holds its body."""

CALLS_OF_TASKS: Final = frozenset({"celery.map", "celery.starmap"})
"""The names of Celery's tasks that call other tasks directly."""


class OverriddenRetries:
    """``Task.override_max_retries``, kept on the request that the task runs for.

    Outside of a request it is not there, and setting it does nothing: there is nothing to retry.
    """

    def __get__(self, task: Task[..., Any] | None, kind: object) -> int:
        request = _request_of(task)
        kept = None if request is None else request.get(_OVERRIDDEN)
        # A task that is called directly gets a copy of all that the request around it has.
        if kept is None or kept[0] != id(request):
            raise AttributeError("override_max_retries")
        return kept[1]

    def __set__(self, task: Task[..., Any], max_retries: int) -> None:
        request = _request_of(task)
        if request is not None:
            request[_OVERRIDDEN] = id(request), max_retries

    def __delete__(self, task: Task[..., Any]) -> None:
        request = _request_of(task)
        if request is not None:
            request.pop(_OVERRIDDEN, None)


_OVERRIDDEN: Final = "_tomskit_override_max_retries"


def _request_of(task: Any) -> dict[str, tuple[int, int]] | None:
    """What the request that a task runs for holds."""
    request: object = None if task is None else task.request_stack.top
    return None if request is None else vars(request)


def eager_arguments(
    task: Any,
    args: Sequence[object] | None,
    kwargs: Mapping[str, object] | None,
    options: Mapping[str, Any],
    producer: Any,
) -> tuple[Sequence[object], Mapping[str, object], dict[str, Any]]:
    """What ``Task.apply_async`` gives to ``apply`` in eager mode: arguments, and options."""
    if task.soft_time_limit and task.time_limit and task.soft_time_limit > task.time_limit:
        raise ValueError("soft_time_limit must be less than or equal to time_limit")
    header = getattr(task, HEADER, None)
    if task.typing and header is not None:
        header(*(args or ()), **(kwargs or {}))
    merged: dict[str, Any] = {**task._get_exec_options(), **options}
    if task._dump_pydantic_arguments is not None and merged.get("serializer") != "pickle":
        args, kwargs = task._dump_pydantic_arguments(args, kwargs)
    merged.setdefault("ignore_result", task.ignore_result)
    serializer = merged.get("serializer") or getattr(producer, "serializer", None)
    content_type, encoding, data = serialization.dumps(
        (args, kwargs), serializer or task.app.conf.task_serializer
    )
    args, kwargs = serialization.loads(data, content_type, encoding, accept=[content_type])
    return args or (), kwargs or {}, merged


class _SharedTask(Protocol):
    """``celery.shared_task``, where the task's class and attributes are given as options."""

    def __call__(
        self, *, base: type[T], bind: bool, **options: object
    ) -> Callable[[Callable[..., object]], Proxy[T]]: ...


_untyped_celery: Any = celery
shared_task: Final[_SharedTask] = _untyped_celery.shared_task


def target_of(proxy: Proxy[T]) -> T:
    """The task that a proxy stands for."""
    return proxy._get_current_object()


if TYPE_CHECKING:
    _Promise = PromiseProxy[Any]
else:
    _Promise = PromiseProxy


class _MadeOnce(_Promise):
    """A proxy of a task that is made when it is first used, by one thread."""

    __slots__ = ("_tomskit_making",)

    @override
    def __evaluate__(self, *args: Any) -> Any:
        making: Callable[[], AbstractContextManager[object]]
        making = object.__getattribute__(self, "_tomskit_making")
        with making():
            if self.__evaluated__():  # by another thread, meanwhile
                return self._get_current_object()
            return super().__evaluate__(*args)


def made_once(found: object, making: Callable[[], AbstractContextManager[object]]) -> object:
    """What stands for a task, and has threads that use it first wait for the one that makes it.

    Args:
        found: What Celery's decorator has made: a task, or a proxy that makes it.
        making: What is entered to make it.
    """
    proxy: Any = found
    if type(proxy) is not PromiseProxy:
        return found
    made = _MadeOnce(proxy._get_current_object, __doc__=found.__doc__)
    object.__setattr__(made, "_tomskit_making", making)
    return made
