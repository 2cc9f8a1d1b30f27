"""Prepares a worker for the asyncio pool and the Redis fast path before its parts are made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from celery.concurrency import get_implementation
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.concurrency.solo import TaskPool as SoloPool
from celery.concurrency.thread import TaskPool as ThreadsPool
from kombu.asynchronous import set_event_loop

from tomskit.celery._internals.celery_messages import connect_with
from tomskit.celery._internals.celery_worker import (
    consumer_class_of,
    make_hub_of,
    obey_commands_by,
)
from tomskit.celery._worker.heartbeats import send_heartbeats_once
from tomskit.celery._worker.overview import banner
from tomskit.celery._worker.prefork_pool import keeping_prefork_pool
from tomskit.celery._worker.solo_pool import contained_solo_pool, quitting_consumer
from tomskit.celery._worker.threads_pool import waited_consumer, waited_threads_pool
from tomskit.celery._worker.unreadable import GuardedNode, guarded_consumer
from tomskit.celery.asyncio_pool.consumer import consumer_class
from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.asyncio_pool.pool import AsyncioPool
from tomskit.celery.asyncio_pool.redis_channel import waiting_parts
from tomskit.celery.fast_redis.parts import Parts, connection_class, fast_parts, kombu_parts

if TYPE_CHECKING:
    from tomskit.celery._app import AsyncApp
    from tomskit.celery._internals.celery_worker import Worker

__all__ = ("DEFAULT_CONCURRENCY", "prepare")

DEFAULT_CONCURRENCY = 1000


def prepare(worker: Worker, app: AsyncApp) -> None:
    """Let a worker of `app` be made with the parts that its pool and the configuration need."""
    # Celery makes the worker use the event loop of an earlier one of this process, which is closed.
    set_event_loop(None)
    pool: type[object] = get_implementation(worker.pool_cls)
    draw_banner: Callable[..., str] | None = getattr(worker, "startup_info", None)
    if draw_banner is not None:
        vars(worker)["startup_info"] = partial(banner, worker, app, draw_banner)
    fast, fetch_bytes = app.config.CELERY_REDIS_FAST_PATH, app.config.CELERY_FETCH_BYTES
    in_loop = issubclass(pool, AsyncioPool)
    guarded = guarded_consumer(consumer_class_of(worker))
    worker.consumer_cls = consumer_class(guarded, in_loop=in_loop)
    obey_commands_by(GuardedNode, app)
    send_heartbeats_once(app)
    if issubclass(pool, SoloPool):
        worker.pool_cls = contained_solo_pool(pool)
        worker.consumer_cls = quitting_consumer(worker.consumer_cls)
    elif issubclass(pool, ThreadsPool):
        worker.pool_cls = waited_threads_pool(pool)
        worker.consumer_cls = waited_consumer(worker.consumer_cls)
    elif issubclass(pool, PreforkPool):
        worker.pool_cls = keeping_prefork_pool(pool)
    if not in_loop:
        parts = _fast_parts(pool, fetch_bytes) if fast else kombu_parts()
        connect_with(app, connection_class(parts))
        return
    connect_with(
        app, connection_class(waiting_parts(fast=fast is not False, fetch_bytes=fetch_bytes))
    )
    if not (app.conf.worker_concurrency or worker.options.get("concurrency")):
        worker.concurrency = DEFAULT_CONCURRENCY
    make_hub_of(LoopHub, worker)
    worker.wait_for_soft_shutdown = partial(_wait, worker, worker.wait_for_soft_shutdown)


def _fast_parts(pool: type[object], fetch_bytes: int) -> Parts:
    tasks_run: Final = "in the turn" if issubclass(pool, SoloPool) else "elsewhere"
    return fast_parts(tasks_run=tasks_run, fetch_bytes=fetch_bytes)


def _wait(worker: Worker, sleep: Callable[[], object]) -> None:
    # Celery sleeps for the time that running tasks are given, and would keep them from running.
    hub = worker.hub
    if isinstance(hub, LoopHub):
        hub.wait(hub.asyncio_loop.run_in_executor(None, sleep))
