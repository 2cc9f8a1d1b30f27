"""The boot step that starts and stops the runtime in a worker's main process."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from itertools import chain
from math import isfinite
from typing import Any, Final

from celery import Celery, Task, bootsteps
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.platforms import EX_FAILURE
from kombu.asynchronous import get_event_loop, set_event_loop
from typing_extensions import override

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.encodings import unknown_encodings, unknown_of_tasks
from tomskit.celery._internals.celery_messages import connect_as_celery
from tomskit.celery._internals.celery_worker import (
    Worker,
    send_events_as_celery,
    stop_worker,
)
from tomskit.celery._internals.refusals import RefusedPoolError, RefusedTasksError
from tomskit.celery._running.runtime import AsyncRuntime
from tomskit.celery._running.steering import Limits
from tomskit.celery._tasks.task import AsyncTask
from tomskit.celery._worker.checked_worker import refuse
from tomskit.celery._worker.last_threads import end_without_threads
from tomskit.celery._worker.logging import escape_tracebacks
from tomskit.celery._worker.patient_backend import PatientBackends
from tomskit.celery._worker.remarks import remarks_on
from tomskit.celery._worker.servers import check_servers
from tomskit.celery._worker.signals import CHILD_FAILED, host_of
from tomskit.celery.asyncio_pool import AsyncioPool
from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.asyncio_pool.main_loop import MainLoop
from tomskit.celery.asyncio_pool.signals import SignalHandlers
from tomskit.errors import ConfigurationError

__all__ = ("RuntimeStep",)

logger: Final = logging.getLogger(__name__)


class RuntimeStep(bootsteps.StartStopStep):
    """Starts the runtime before the pool and closes it after the pool has stopped.

    Only where tasks run in the worker's own process. The processes of a prefork pool have signals
    of their own for this, and a runtime in their parent would not survive the fork.
    """

    def __init__(self, parent: Worker, **kwargs: object) -> None:
        super().__init__(parent, **kwargs)
        pool = parent.pool_cls
        if pool.is_green:
            name = pool.__module__.rpartition(".")[2]
            raise RefusedPoolError(
                f"The {name} pool cannot run coroutines: it replaces the threads and sockets that "
                "asyncio needs. Thousands of tasks at once in one process are what the asyncio "
                "pool is for: CELERY_WORKER_POOL=asyncio, without -P. Or use the prefork, threads "
                "or solo pool."
            )
        self._in_process = not issubclass(pool, PreforkPool)
        self._backends: PatientBackends | None = None
        self._signals: SignalHandlers | None = None
        self._replaced: signal.Handlers | Callable[..., object] | int | None = None
        if issubclass(pool, AsyncioPool):
            _check_transport(parent)
        if isinstance(parent.app, AsyncApp):
            # The settings again: receivers of celeryd_init may have changed them, and some workers have no program.
            refuse(chain(unknown_encodings(parent.app), unknown_of_tasks(parent.app)))
        _check_annotations(parent.app)
        check_servers(parent.app)

    @override
    def include(self, parent: Worker) -> bool:
        # Steps stop in reverse, so the first one closes after the pool, whatever the dependencies.
        parent.steps.insert(0, self)
        return True

    @override
    def start(self, parent: Worker) -> None:
        host = host_of(parent.app)
        escape_tracebacks()
        for remark in remarks_on(parent):
            logger.warning("%s", remark)
        if isinstance(parent.app, AsyncApp):
            parent.app.name_defaults()
            if not issubclass(parent.pool_cls, AsyncioPool):
                self._backends = PatientBackends(parent.app)
                parent.app.pool_backend = self._backends.wrap
        if not self._in_process:
            if threading.current_thread() is threading.main_thread():
                self._replaced = signal.signal(CHILD_FAILED, _stop_failed_worker)
        elif host is not None:
            if isinstance(parent.hub, LoopHub):
                self._run_in_worker_loop(parent.app, parent.hub)
            host.start()
            # Celery leaves these to the pool, and only prefork enforces them.
            AsyncRuntime.enforce_limits(Limits(parent.soft_time_limit, parent.time_limit))

    def _run_in_worker_loop(self, app: Celery, hub: LoopHub) -> None:
        if isinstance(app, AsyncApp) and not app.runtime_host.uses_async_runtime:
            logger.warning(
                "The app was given a runtime of its own, %r, so its async tasks run on that, in "
                "threads, CELERY_WORKER_SYNC_CONCURRENCY at once, and not in the asyncio pool's "
                "event loop: without runtime=, or with a subclass of AsyncRuntime, they would.",
                app.runtime,
            )
        hub.take_this_thread()
        main_loop = MainLoop(app, hub)
        main_loop.start()
        AsyncRuntime.adopt(main_loop)
        if threading.current_thread() is threading.main_thread():
            self._signals = SignalHandlers(hub)
            self._signals.install()

    @override
    def stop(self, parent: Worker) -> None:
        host = host_of(parent.app)
        if self._in_process and host is not None:
            if self._signals is not None:
                self._signals.remove()
            host.stop()
            AsyncRuntime.enforce_limits(None)
        if self._backends is not None:
            self._backends.finish()
        # What follows is for processes that outlive their worker, such as those of tests.
        if isinstance(parent.app, AsyncApp):
            parent.app.pool_backend = None
        if threading.current_thread() is threading.main_thread():
            end_without_threads(parent)
            if self._replaced is not None:
                signal.signal(CHILD_FAILED, self._replaced)
        connect_as_celery(parent.app)
        send_events_as_celery(parent.app)
        if parent.hub is not None and get_event_loop() is parent.hub:
            set_event_loop(None)

    @override
    def terminate(self, parent: Worker) -> None:
        self.stop(parent)


def _check_transport(worker: Worker) -> None:
    if not worker.use_eventloop:
        transport = worker.app.connection_for_read().transport.driver_type
        raise RefusedPoolError(
            f"The asyncio pool cannot wait for messages of the {transport!r} transport, which has no "
            "event loop: use a Redis or AMQP broker, or the prefork, threads or solo pool."
        )


def _check_annotations(app: Celery) -> None:
    """Refuse tasks that cannot be called, before they are.

    What is built here is inherited by the forked processes of prefork.
    """
    refused: list[str] = []
    for task in app.tasks.values():
        if isinstance(task, AsyncTask):
            try:
                task.resolve_annotations()
            except ConfigurationError as exc:
                refused.append(str(exc))
        refused += _refused_limits(task)
    if refused:
        raise RefusedTasksError("\n".join(refused))


def _refused_limits(task: Task[..., Any]) -> Iterator[str]:
    """What is wrong with the time limits of a task: the first call of it would end the worker."""
    limits: dict[str, object] = {
        "soft_time_limit": task.soft_time_limit,
        "time_limit": task.time_limit,
    }
    for name, value in limits.items():
        if value is not None and not (isinstance(value, (int, float)) and isfinite(value)):
            yield (
                f"{task.name} has {name}={value!r}, which is no number of seconds. Write {name}=30, in the "
                "decorator or in task_annotations."
            )


def _stop_failed_worker(*_: object) -> None:
    stop_worker(EX_FAILURE)
