"""What happens when in the life of a worker: Celery's signals, made ours."""

from __future__ import annotations

import logging
import os
import signal
import time
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Final, cast

from billiard.process import current_process
from celery import Celery, Task, signals
from celery.platforms import EX_FAILURE

from tomskit.celery._app import AsyncApp, Host
from tomskit.celery._internals.celery import current_app, register_pool
from tomskit.celery._running.context import celery_context, task_id_context
from tomskit.errors import ProviderError

if TYPE_CHECKING:
    from tomskit.celery._internals.celery import Worker

__all__ = ("CHILD_FAILED", "host_of", "install")

logger: Final = logging.getLogger(__name__)

_READY_VARIABLE: Final = "TOMSKIT_READY_WORKER"
"""Environment variable with the process id of a worker that has become ready."""


CHILD_FAILED: Final = signal.SIGURG
"""What a process of the pool sends to the worker when it cannot start.

Celery gives it no meaning, and the system ignores it where nobody listens.
"""


def install(app: AsyncApp) -> None:
    """Run coroutines in every worker of `app`."""
    register_pool("asyncio", "tomskit.celery.asyncio_pool:AsyncioPool")
    # By name: the modules of Celery that it needs are the worker's, not every producer's.
    app.steps["worker"].add("tomskit.celery._worker.steps:RuntimeStep")
    # Signals are the process's, not the app's; connecting twice changes nothing.
    signals.worker_init.connect(_prepare_worker)
    signals.worker_process_init.connect(_start_in_child)
    signals.worker_process_shutdown.connect(_stop_in_child)
    signals.worker_ready.connect(_note_ready)
    signals.task_prerun.connect(_enter_task)
    signals.task_postrun.connect(_leave_task)


def host_of(app: Celery) -> Host | None:
    """The host of the app's runtime; None for an app that is not an AsyncCelery."""
    return app.runtime_host if isinstance(app, AsyncApp) else None


def _prepare_worker(sender: Worker, **_: object) -> None:
    if host_of(sender.app) is not None:
        from tomskit.celery._worker.prepare import prepare

        prepare(sender)


def _start_in_child(**_: object) -> None:
    host = host_of(current_app())
    if host is None or current_process().name == "MainProcess":
        return
    celery_context.set(cast("AsyncApp", current_app()))
    try:
        host.start()
    except ProviderError as exc:
        logger.critical("%s. This worker process ends.", exc, exc_info=exc)
        if os.environ.get(_READY_VARIABLE) != str(os.getppid()):
            os.kill(os.getppid(), CHILD_FAILED)
        # Else the pool replaces this process, and what is missing may come back meanwhile.
        time.sleep(1)
        raise SystemExit(EX_FAILURE) from exc


def _stop_in_child(**_: object) -> None:
    host = host_of(current_app())
    if host is not None and current_process().name != "MainProcess":
        host.stop()


def _note_ready(**_: object) -> None:
    # Processes that the pool starts from now on replace others.
    os.environ[_READY_VARIABLE] = str(os.getpid())


class _Entered:
    """What a task has set in its context, to be undone when it ends."""

    __slots__ = ("app", "outer", "task_id")

    def __init__(
        self,
        app: Token[AsyncApp | None],
        task_id: Token[str | None],
        outer: _Entered | None,
    ) -> None:
        self.app = app
        self.task_id = task_id
        self.outer = outer


_entered: Final[ContextVar[_Entered | None]] = ContextVar("tomskit_entered", default=None)


def _enter_task(task_id: str, task: Task[..., object], **_: object) -> None:
    if host_of(task.app) is not None:
        app = celery_context.set(cast("AsyncApp", task.app))
        _entered.set(_Entered(app, task_id_context.set(task_id), _entered.get()))


def _leave_task(task: Task[..., object], **_: object) -> None:
    entered = _entered.get()
    if entered is not None and host_of(task.app) is not None:
        task_id_context.reset(entered.task_id)
        celery_context.reset(entered.app)
        _entered.set(entered.outer)
