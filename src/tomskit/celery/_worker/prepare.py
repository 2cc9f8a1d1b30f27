"""Prepares a worker for the asyncio pool and the Redis fast path, before its parts are made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from celery.concurrency import get_implementation
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.concurrency.solo import TaskPool as SoloPool
from kombu.utils.imports import symbol_by_name

from tomskit.celery.asyncio_pool.consumer import consumer_class
from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.asyncio_pool.pool import AsyncioPool
from tomskit.celery.asyncio_pool.redis_channel import waiting_parts
from tomskit.celery.fast_redis.connection import Parts, connection_class, fast_parts

if TYPE_CHECKING:
    from celery import Celery
    from celery.worker.consumer import Consumer
    from kombu import Connection

    from tomskit.celery._app import AsyncApp
    from tomskit.celery._internals.celery import Worker

__all__ = ("DEFAULT_CONCURRENCY", "prepare")

DEFAULT_CONCURRENCY = 1000


def prepare(worker: Worker) -> None:
    """Let the worker be made with the parts that its pool and the configuration need."""
    pool = cast("type[object]", get_implementation(worker.pool_cls))
    app = cast("AsyncApp", worker.app)
    fast = app.config.CELERY_REDIS_FAST_PATH
    if not issubclass(pool, AsyncioPool):
        if fast:
            _connect_with(app, _fast_parts(pool))
        return
    _connect_with(app, waiting_parts(fast=fast is not False))
    if not (worker.app.conf.worker_concurrency or worker.options.get("concurrency")):
        worker.concurrency = DEFAULT_CONCURRENCY
    # Celery makes the hub of the class that its connection asks for.
    worker._conninfo.requires_hub = LoopHub  # noqa: SLF001
    base = cast("type[Consumer]", symbol_by_name(cast("str", worker.consumer_cls)))
    worker.consumer_cls = consumer_class(base)
    worker.wait_for_soft_shutdown = partial(_wait, worker, worker.wait_for_soft_shutdown)


def _connect_with(app: Celery, parts: Parts) -> None:
    cast("_Connecting", app.amqp).Connection = connection_class(parts)


def _fast_parts(pool: type[object]) -> Parts:
    if issubclass(pool, PreforkPool):
        return fast_parts(tasks_run="elsewhere")
    return fast_parts(tasks_run="in the turn" if issubclass(pool, SoloPool) else "in threads")


class _Connecting(Protocol):
    Connection: type[Connection]


def _wait(worker: Worker, sleep: Callable[[], object]) -> None:
    # Celery sleeps for the time that running tasks get, and they would sleep with it.
    hub = worker.hub
    if isinstance(hub, LoopHub):
        hub.wait(hub.asyncio_loop.run_in_executor(None, sleep))
