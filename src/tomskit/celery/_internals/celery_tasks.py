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

`celery.map`, `celery.starmap`, the names of Celery's own tasks
    For: converting the results of an async task that these call.
    When it is missing: such results stay as JSON has them, silently.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

import celery
from celery import canvas
from celery.utils.functional import head_from_fun

if TYPE_CHECKING:
    from celery.app.task import Task
    from celery.local import Proxy

__all__ = (
    "CALLS_OF_TASKS",
    "HEADER",
    "ChainSignature",
    "head_from_fun",
    "shared_task",
    "target_of",
)

T = TypeVar("T", bound="Task[..., Any]")

ChainSignature: TypeAlias = canvas._chain
"""What ``|`` makes of two signatures; ``celery.chain`` is a subclass, of which it makes none."""

HEADER: Final = "__header__"
"""The attribute of a task that holds a function with the parameters that its calls have to fit."""

CALLS_OF_TASKS: Final = frozenset({"celery.map", "celery.starmap"})
"""The names of Celery's tasks that call other tasks directly."""


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
