"""Celery's signals, and what happens on each in the processes of a worker."""

from __future__ import annotations

import logging
import os
import signal
import time
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Final

from celery import Celery, Task, signals
from celery.platforms import EX_FAILURE

from tomskit.celery._app import AsyncApp, Host
from tomskit.celery._internals.billiard import is_pool_process
from tomskit.celery._internals.celery import current_app, register_pool
from tomskit.celery._running.context import celery_context, task_id_context
from tomskit.celery._running.strays import lineage
from tomskit.celery._worker.logging import escape_tracebacks, note_format
from tomskit.celery._worker.supervised import end_with_supervisor, tell_ready
from tomskit.errors import ProviderError

if TYPE_CHECKING:
    from celery.beat import Service

    from tomskit.celery._internals.celery_worker import ReadyConsumer, Worker
    from tomskit.celery._outbox.relay import Relay

__all__ = ("CHILD_FAILED", "host_of", "install")

logger: Final = logging.getLogger(__name__)

_READY_VARIABLE: Final = "TOMSKIT_READY_WORKER"
"""Environment variable with the process id of a worker that has become ready."""


CHILD_FAILED: Final = signal.SIGURG
"""The signal that a process of the pool sends to the worker when it cannot start.

Celery does not use it, and the system ignores it where there is no handler.
"""


_relays: Final[list[Relay]] = []
"""That of this process of a prefork pool."""


def install(app: AsyncApp) -> None:
    """Run coroutines in every worker of `app`."""
    register_pool("asyncio", "tomskit.celery.asyncio_pool:AsyncioPool")
    # By name: only workers need the modules of Celery that it imports.
    app.steps["worker"].add("tomskit.celery._worker.steps:RuntimeStep")
    app.steps["worker"].add("tomskit.celery._worker.health:HealthStep")
    app.steps["worker"].add("tomskit.celery._worker.outbox:OutboxStep")
    app.steps["consumer"].add("tomskit.celery._worker.shown_broker:ShownBrokerStep")
    # Signals belong to the process, not to the app; connecting twice changes nothing.
    signals.worker_init.connect(_prepare_worker)
    signals.worker_process_init.connect(_start_in_child)
    signals.worker_process_shutdown.connect(_stop_in_child)
    signals.worker_ready.connect(_note_ready)
    signals.beat_init.connect(_prepare_beat)
    signals.after_setup_logger.connect(note_format)
    signals.task_prerun.connect(_enter_task)
    signals.task_postrun.connect(_leave_task)


def host_of(app: Celery) -> Host | None:
    """The host of the app's runtime; None for an app that is not an AsyncCelery."""
    return app.runtime_host if isinstance(app, AsyncApp) else None


def _prepare_worker(sender: Worker, **_: object) -> None:
    end_with_supervisor()
    app = sender.app
    os.environ.pop(_READY_VARIABLE, None)
    if isinstance(app, AsyncApp):
        from tomskit.celery._worker.prepare import prepare

        prepare(sender, app)


def _prepare_beat(sender: Service, **_: object) -> None:
    # A program that only sends tasks does not need the module.
    from tomskit.celery._worker.beat import end_when_told

    end_when_told(sender)


def _start_in_child(**_: object) -> None:
    app = current_app()
    if not isinstance(app, AsyncApp) or not is_pool_process():
        return
    celery_context.set(app)
    escape_tracebacks()
    try:
        app.runtime_host.start()
    except ProviderError as exc:
        logger.critical("%s. This worker process ends.", exc, exc_info=exc)
        if os.environ.get(_READY_VARIABLE) != str(os.getppid()):
            os.kill(os.getppid(), CHILD_FAILED)
        # Otherwise the pool replaces this process, and the resource may be back by then.
        time.sleep(1)
        raise SystemExit(EX_FAILURE) from exc
    from tomskit.celery._outbox.relay import Relay
    from tomskit.celery._worker.patient_backend import PatientBackends

    # A process that was not forked has an app of its own.
    app.pool_backend = PatientBackends(app).wrap
    relay = Relay(app)
    relay.start()
    _relays.append(relay)


def _stop_in_child(**_: object) -> None:
    host = host_of(current_app())
    if host is not None and is_pool_process():
        while _relays:
            _relays.pop().stop()
        host.stop()


def _note_ready(sender: ReadyConsumer | None, **_: object) -> None:
    # Processes that the pool starts from now on replace others.
    os.environ[_READY_VARIABLE] = str(os.getpid())
    tell_ready()
    if sender is not None and isinstance(sender.app, AsyncApp):
        from tomskit.celery._worker.connections import compare_with_servers

        # Not earlier: the processes of a pool are forked by now.
        compare_with_servers(sender.controller, sender.app)


class _Entered:
    """What was before a task: the tokens of what was set in its context, to be reset when it ends, and the process."""

    __slots__ = ("app", "outer", "process", "task_id")

    def __init__(
        self,
        app: Token[AsyncApp | None],
        task_id: Token[str | None],
        outer: _Entered | None,
    ) -> None:
        self.app = app
        self.task_id = task_id
        self.outer = outer
        self.process = lineage.here


_entered: Final[ContextVar[_Entered | None]] = ContextVar("tomskit_entered", default=None)


def _enter_task(task_id: str, task: Task[..., object], **_: object) -> None:
    app = task.app
    if isinstance(app, AsyncApp):
        token = celery_context.set(app)
        _entered.set(_Entered(token, task_id_context.set(task_id), _entered.get()))


def _leave_task(task: Task[..., object], **_: object) -> None:
    entered = _entered.get()
    if entered is not None and host_of(task.app) is not None:
        if entered.process is not lineage.here:
            # Forked beside the function, such as in a hook, and before Celery tells that the task has ended.
            lineage.end()
        task_id_context.reset(entered.task_id)
        celery_context.reset(entered.app)
        _entered.set(entered.outer)
