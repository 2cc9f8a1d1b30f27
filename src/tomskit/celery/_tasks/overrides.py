"""Overrides: methods of a task that a class of users replaces, and that Celery calls."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

from celery import Task

from tomskit.celery._client.result import as_typed
from tomskit.errors import NotACoroutineFunctionError

__all__ = ("check_overrides", "prepare_results", "prepare_sending")

_CALLED: Final = ("__call__", "apply", "apply_async", "delay", "retry")
"""Methods that Celery calls and does not await."""

_SENDING: Final = ("apply_async", "delay")

_SENDS_WIRE_FORMS: Final = "_tomskit_sends_wire_forms"

_MAKES_TYPED_RESULTS: Final = "_tomskit_makes_typed_results"


def check_overrides(cls: type[Task[..., Any]]) -> None:
    """Refuse a coroutine function where Celery calls a plain one.

    Raises:
        NotACoroutineFunctionError: There is one.
    """
    for name in _CALLED:
        if inspect.iscoroutinefunction(getattr(cls, name)):
            raise NotACoroutineFunctionError(
                f"{cls.__qualname__}.{name} is async def, and Celery does not await it: define it "
                "with def. The hooks (before_start, on_success, on_retry, on_failure, after_return) "
                "may be async def."
            )


def prepare_sending(cls: type[Task[..., Any]], own: type[Task[..., Any]]) -> bool:
    """Let an override of ``apply_async`` get the arguments as they are sent.

    The hooks in the worker get the same, and a class finds by it what belongs together, a lock for
    example.

    Args:
        cls: The class of one task.
        own: The class that makes them what is sent: AsyncTask.

    Returns:
        Whether there are overrides, which may wait for a server of their own.
    """
    others = [one for one in cls.__mro__ if one not in own.__mro__]
    found = next(vars(one)["apply_async"] for one in cls.__mro__ if "apply_async" in vars(one))
    if found is not vars(own)["apply_async"] and not hasattr(found, _SENDS_WIRE_FORMS):
        setattr(cls, "apply_async", _sending_wire_forms(found))  # noqa: B010 (not a plain method)
    return any(name in vars(one) for one in others for name in _SENDING)


def prepare_results(cls: type[Task[..., Any]], own: type[Task[..., Any]]) -> None:
    """Let the results that an override of ``AsyncResult`` makes be awaited.

    Args:
        cls: The class of one task.
        own: The class whose results can be: AsyncTask.
    """
    found = next(vars(one)["AsyncResult"] for one in cls.__mro__ if "AsyncResult" in vars(one))
    if found is not vars(own)["AsyncResult"] and not hasattr(found, _MAKES_TYPED_RESULTS):
        cls.AsyncResult = _making_typed_results(found)  # type: ignore[method-assign]


def _making_typed_results(method: Any) -> Any:
    @functools.wraps(method)
    def make(self: Any, *args: object, **options: object) -> object:
        return as_typed(method.__get__(self, type(self))(*args, **options), self.name)

    vars(make)[_MAKES_TYPED_RESULTS] = True
    return make


def _sending_wire_forms(method: Any) -> object:
    @functools.wraps(method)
    def apply_async(
        self: Any,
        args: Sequence[object] | None = None,
        kwargs: Mapping[str, object] | None = None,
        *rest: object,
        **options: object,
    ) -> object:
        bound = method.__get__(self, type(self))
        return as_typed(bound(*self._to_wire(args, kwargs), *rest, **options), self.name)

    vars(apply_async)[_SENDS_WIRE_FORMS] = True
    return apply_async
