"""What happens when in the life of a worker: Celery's signals and boot steps, made ours."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Final, cast

from billiard.process import current_process
from celery import Celery, Task, bootsteps, signals
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.platforms import EX_FAILURE
from click import ClickException
from typing_extensions import override

from tomskit.celery.context import celery_context, task_id_context
from tomskit.celery.execution import Limits
from tomskit.celery.host import RuntimeHost
from tomskit.celery.internals import Worker, current_app, worker_state
from tomskit.celery.runtime import AsyncRuntime
from tomskit.errors import ProviderError, UnsupportedPoolError

if TYPE_CHECKING:
    from tomskit.celery.app import AsyncCelery

__all__ = ("install",)

logger = logging.getLogger(__name__)

_READY_VARIABLE: Final = "TOMSKIT_READY_WORKER"
"""Environment variable with the process id of a worker that has become ready."""


_CHILD_FAILED: Final = signal.SIGURG
"""What a process of the pool sends to the worker when it cannot start.

Celery gives it no meaning, and the system ignores it where nobody listens.
"""


def install(app: AsyncCelery) -> None:
    """Run coroutines in every worker of `app`."""
    app.steps["worker"].add(RuntimeStep)
    # Signals are the process's, not the app's; connecting twice changes nothing.
    signals.worker_process_init.connect(_start_in_child)
    signals.worker_process_shutdown.connect(_stop_in_child)
    signals.worker_ready.connect(_note_ready)
    signals.task_prerun.connect(_enter_task)
    signals.task_postrun.connect(_leave_task)


class _RefusedPoolError(ClickException, UnsupportedPoolError):
    """Shown by Celery's command line as one line, without a traceback."""


class RuntimeStep(bootsteps.StartStopStep):
    """Starts the runtime before the pool and closes it after the pool has stopped.

    Only where tasks run in the worker's own process. The processes of a prefork pool have signals
    of their own for this, and a runtime in their parent would not survive the fork.
    """

    def __init__(self, parent: object, **kwargs: object) -> None:
        super().__init__(parent, **kwargs)
        pool = cast("Worker", parent).pool_cls
        if pool.is_green:
            name = pool.__module__.rpartition(".")[2]
            raise _RefusedPoolError(
                f"The {name} pool cannot run coroutines: it replaces the threads and sockets that "
                "asyncio needs. Use the prefork, threads or solo pool (-P, or "
                "CELERY_WORKER_POOL); thousands of tasks at once in one process are what the "
                "asyncio pool is for, which is not part of this version yet."
            )
        self._in_process = not issubclass(pool, PreforkPool)

    @override
    def include(self, parent: object) -> bool:
        # Steps stop in reverse, so the first one closes after the pool, whatever the dependencies.
        cast("Worker", parent).steps.insert(0, self)
        return True

    @override
    def start(self, parent: object) -> None:
        worker = cast("Worker", parent)
        host = _host_of(worker.app)
        if not self._in_process:
            if threading.current_thread() is threading.main_thread():
                signal.signal(_CHILD_FAILED, _stop_failed_worker)
        elif host is not None:
            host.start()
            # Celery leaves these to the pool, and only prefork enforces them.
            AsyncRuntime.enforce_limits(Limits(worker.soft_time_limit, worker.time_limit))

    @override
    def stop(self, parent: object) -> None:
        host = _host_of(cast("Worker", parent).app)
        if self._in_process and host is not None:
            host.stop()

    @override
    def terminate(self, parent: object) -> None:
        self.stop(parent)


def _host_of(app: Celery) -> RuntimeHost | None:
    host: object = getattr(app, "runtime_host", None)
    return host if isinstance(host, RuntimeHost) else None


def _start_in_child(**_: object) -> None:
    host = _host_of(current_app())
    if host is None or current_process().name == "MainProcess":
        return
    celery_context.set(cast("AsyncCelery", current_app()))
    try:
        host.start()
    except ProviderError as exc:
        logger.critical("%s. This worker process ends.", exc, exc_info=exc)
        if os.environ.get(_READY_VARIABLE) != str(os.getppid()):
            os.kill(os.getppid(), _CHILD_FAILED)
        # Else the pool replaces this process, and what is missing may come back meanwhile.
        time.sleep(1)
        raise SystemExit(EX_FAILURE) from exc


def _stop_failed_worker(*_: object) -> None:
    # As Celery's own signal handlers do: the worker's loop looks at it in each turn.
    worker_state.should_stop = EX_FAILURE


def _stop_in_child(**_: object) -> None:
    host = _host_of(current_app())
    if host is not None:
        host.stop()


def _note_ready(**_: object) -> None:
    # Processes that the pool starts from now on replace others.
    os.environ[_READY_VARIABLE] = str(os.getpid())


class _Entered:
    """What a task has set in its context, to be undone when it ends."""

    __slots__ = ("app", "outer", "task_id")

    def __init__(
        self,
        app: Token[AsyncCelery | None],
        task_id: Token[str | None],
        outer: _Entered | None,
    ) -> None:
        self.app = app
        self.task_id = task_id
        self.outer = outer


_entered: Final[ContextVar[_Entered | None]] = ContextVar("tomskit_entered", default=None)


def _enter_task(task_id: str, task: Task[..., object], **_: object) -> None:
    if _host_of(task.app) is not None:
        app = celery_context.set(cast("AsyncCelery", task.app))
        _entered.set(_Entered(app, task_id_context.set(task_id), _entered.get()))


def _leave_task(task: Task[..., object], **_: object) -> None:
    entered = _entered.get()
    if entered is not None and _host_of(task.app) is not None:
        task_id_context.reset(entered.task_id)
        celery_context.reset(entered.app)
        _entered.set(entered.outer)
