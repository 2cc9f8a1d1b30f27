"""The solo pool, which an error of a function does not end, and in which a cold shutdown ends the task."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionInfo
from celery.concurrency.solo import TaskPool as SoloPool
from celery.exceptions import WorkerTerminate
from celery.platforms import EX_FAILURE
from typing_extensions import override

from tomskit.celery._internals.celery_worker import Consumer, quit_worker
from tomskit.celery.asyncio_pool.report import log_failure
from tomskit.celery.fast_redis.parts import in_front

if TYPE_CHECKING:
    from celery.worker import consumer as celery_consumer

__all__ = ("contained_solo_pool", "quitting_consumer")


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
        self._is_quitting = False
        self._ends_task = False

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """Called by Celery to end a task."""
        if not self._is_quitting:
            terminate: Callable[..., None] = getattr(super(), "terminate_job")  # noqa: B009
            terminate(pid, signal)
        self._ends_task = True

    @contextmanager
    def quitting(self) -> Generator[None]:
        """End the task that Celery ends meanwhile, in the handler of a signal.

        Celery says that a solo pool cannot do that, and the error was the end of the task: FAILURE, and no other
        worker got it. But the handler interrupts the task, which runs in the same thread.
        """
        self._is_quitting = True
        try:
            yield
        finally:
            self._is_quitting = False
            if self._ends_task:
                raise WorkerTerminate(EX_FAILURE)


class _QuittingConsumer(Consumer):
    """Put in front of a class of consumers, ends the task that runs when the worker is to quit."""

    @override
    def cancel_active_requests(self) -> None:
        """Say of the task that runs that it is cancelled, and end it."""
        if isinstance(self.pool, _Contained):
            with self.pool.quitting():
                # Before: what is said is stored, and the store may be away.
                quit_worker(EX_FAILURE)
                super().cancel_active_requests()
        else:
            super().cancel_active_requests()


def quitting_consumer(base: type[celery_consumer.Consumer]) -> type[celery_consumer.Consumer]:
    """`base`, for a solo pool."""
    return in_front(base, _QuittingConsumer)


def contained_solo_pool(base: type[SoloPool]) -> type[SoloPool]:
    """`base`, in which a function may fail."""
    return in_front(base, _Contained)


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
