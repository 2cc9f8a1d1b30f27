"""Functions that a pool calls: whatever they raise, Celery is told that they have failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from billiard.einfo import ExceptionInfo

from tomskit.celery._running.strays import lineage
from tomskit.celery.asyncio_pool.report import ignore, info_of, log_failure

__all__ = ("apply_contained",)


class _Failed:
    """Takes the place of the outcome of a function that has raised."""

    def __init__(self, info: ExceptionInfo) -> None:
        self.info: Final = info


def apply_contained(
    apply: Callable[..., object],
    target: Callable[..., object],
    args: Sequence[object] | None = None,
    kwargs: Mapping[str, object] | None = None,
    *,
    callback: Callable[[object], object] = ignore,
    error_callback: Callable[[ExceptionInfo], object] = log_failure,
    passes: tuple[type[BaseException], ...] = (),
    **options: object,
) -> object:
    """Call a function in a pool, by the pool's own `apply`, and tell of its outcome.

    Celery's threads and solo pools lose what is no Exception, and what its tracer itself has raised: nobody
    is told that the task has ended, and its message stays with the worker.

    Args:
        apply: Calls a function, and then its `callback`.
        target: The function; mostly Celery's tracer.
        args: What it is called with.
        kwargs: The same.
        callback: Takes what the function has returned.
        error_callback: Takes what it has raised.
        passes: What is raised as it is, as it is meant for the worker.
        options: Others of `apply`.
    """

    def call(*args: object, **kwargs: object) -> object:
        process = lineage.here
        try:
            try:
                return target(*args, **kwargs)
            finally:
                if lineage.here is not process:
                    lineage.end()
        except passes:
            raise
        except BaseException as exc:  # noqa: BLE001 (the worker decides what each means)
            return _Failed(info_of(exc))

    def tell(outcome: object) -> object:
        return error_callback(outcome.info) if isinstance(outcome, _Failed) else callback(outcome)

    return apply(call, args or (), kwargs, callback=tell, **options)
