"""The solo pool, which an error of a function does not end, and in which a cold shutdown ends the task."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from celery.concurrency.solo import TaskPool as SoloPool
from celery.exceptions import WorkerShutdown, WorkerTerminate
from celery.platforms import EX_FAILURE
from typing_extensions import override

from tomskit.celery._internals.celery_worker import Consumer, quit_worker
from tomskit.celery._worker.contained_calls import apply_contained
from tomskit.celery.fast_redis.parts import in_front

if TYPE_CHECKING:
    from celery.worker import consumer as celery_consumer

__all__ = ("contained_solo_pool", "quitting_consumer")


class _Contained:
    """Put in front of a solo pool, keeps errors of functions from the code that takes messages.

    A solo pool calls them while the worker takes messages. Celery's own tracer raises only what is no Exception:
    its task was acknowledged and never ended. An error of another package's function, such as those of
    celery-batches, would end the worker.
    """

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        pool: Any = self
        pool.on_apply = partial(
            apply_contained, pool.on_apply, passes=(WorkerShutdown, WorkerTerminate)
        )
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
