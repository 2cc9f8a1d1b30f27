"""The threads pool, whose running tasks a cold shutdown waits for, as nothing ends a thread."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from celery.concurrency.thread import TaskPool as ThreadsPool
from kombu.asynchronous import get_event_loop
from typing_extensions import override

from tomskit.celery._internals.celery_worker import Consumer, tags_of_running_tasks
from tomskit.celery._running.turns import Turns
from tomskit.celery._worker.contained_calls import apply_contained
from tomskit.celery.fast_redis.parts import in_front

if TYPE_CHECKING:
    from celery.worker import consumer as celery_consumer

__all__ = ("waited_consumer", "waited_threads_pool")

logger: Final = logging.getLogger(__name__)


class _WaitedPool(ThreadsPool):
    """Put in front of a pool of threads, waits for them in each kind of shutdown, and tells of all that they raise.

    Celery waits without a turn of the worker: what has ended is acknowledged when the last one has, and runs again
    if the worker is killed before.

    Attributes:
        runs_on: Whether it goes on once although Celery stops it, in the handler of SIGQUIT. There the worker may
            be about to give it a task.
    """

    runs_on = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._running: set[Future[object]] = set()
        self._is_stopping = False

    @override
    def on_apply(self, target: Callable[..., object], *args: Any, **options: Any) -> Any:
        if self._is_stopping:
            # One whose time has come in a last turn: its message goes back.
            return None
        result: Any = apply_contained(super().on_apply, target, *args, **options)
        running: Future[object] = result.f
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return result

    @override
    def on_stop(self) -> None:
        if self.runs_on:
            self.runs_on = False
        else:
            self._wait()

    @override
    def on_terminate(self) -> None:
        self._wait()

    def _wait(self) -> None:
        self._is_stopping = True
        for running in tuple(self._running):
            # Those that have not begun.
            running.cancel()
        hub = get_event_loop()
        if hub is not None:
            turns = Turns(hub)
            for running in tuple(self._running):
                running.add_done_callback(lambda _: hub.call_soon(_begin_turn))
            while self._running:
                turns.take()
        super().on_stop()


def _begin_turn() -> None:
    """Called in a turn, which begins for it."""


class _WaitedConsumer(Consumer):
    """Put in front of a class of consumers, cancels no task.

    Celery calls this in the handler of SIGQUIT, and has the pool end each task. A threads pool cannot, says
    Celery, by an error that is raised wherever the worker is at that moment: mostly where it ends the worker,
    with a traceback, but it may be swallowed as well.
    """

    @override
    def cancel_active_requests(self) -> None:
        if isinstance(self.pool, _WaitedPool):
            self.pool.runs_on = True
        if running := len(tags_of_running_tasks()):
            logger.warning(
                "No thread can be ended: the worker stops when the tasks that run have ended, %d now.",
                running,
            )


def waited_consumer(base: type[celery_consumer.Consumer]) -> type[celery_consumer.Consumer]:
    """`base`, for a pool of threads."""
    return in_front(base, _WaitedConsumer)


def waited_threads_pool(base: type[ThreadsPool]) -> type[ThreadsPool]:
    """`base`, which does not leave its threads running."""
    return in_front(base, _WaitedPool)
