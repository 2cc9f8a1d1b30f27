"""The solo pool, which an error of a function that a package gives to it does not end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.concurrency.solo import TaskPool as SoloPool

from tomskit.celery.asyncio_pool.report import log_failure

__all__ = ("contained_solo_pool",)


class _FunctionFailed(Exception):  # noqa: N818 (never leaves `_apply`)
    def __init__(self, info: ExceptionInfo) -> None:
        super().__init__(info)
        self.info = info


class _Contained:
    """Put in front of a solo pool, keeps errors of functions from the code that takes messages.

    Celery's own tracer raises none. Other packages, such as celery-batches, give functions of theirs, which a
    solo pool calls while the worker takes the last of their messages: an error would end it.
    """

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        pool: Any = self
        pool.on_apply = partial(_apply, pool.on_apply)


def contained_solo_pool(base: type[SoloPool]) -> type[SoloPool]:
    """`base`, in which a function may fail."""
    return type(base.__name__, (_Contained, base), {"__module__": base.__module__})


def _apply(
    apply: Callable[..., object],
    target: Callable[..., object],
    args: Sequence[object] = (),
    kwargs: Mapping[str, object] | None = None,
    *,
    error_callback: Callable[[ExceptionInfo], object] = log_failure,
    **options: object,
) -> object:
    def call(*args: object, **kwargs: object) -> object:
        try:
            return target(*args, **kwargs)
        except Exception as exc:
            raise _FunctionFailed(ExceptionInfo()) from exc

    try:
        return apply(call, args, kwargs, **options)
    except _FunctionFailed as failed:
        return error_callback(failed.info)
