"""Prepares a worker for the asyncio pool, before its parts are made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

from celery.concurrency import get_implementation
from kombu.utils.imports import symbol_by_name

from tomskit.celery.asyncio_pool.consumer import consumer_class
from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.asyncio_pool.pool import AsyncioPool

if TYPE_CHECKING:
    from celery.worker.consumer import Consumer

    from tomskit.celery.internals import Worker

__all__ = ("DEFAULT_CONCURRENCY", "prepare")

DEFAULT_CONCURRENCY = 1000


def prepare(worker: Worker) -> None:
    """Let the worker be made with the parts that the pool needs, if it has that pool."""
    pool = cast("object", get_implementation(worker.pool_cls))
    if not (isinstance(pool, type) and issubclass(pool, AsyncioPool)):
        return
    if not (worker.app.conf.worker_concurrency or worker.options.get("concurrency")):
        worker.concurrency = DEFAULT_CONCURRENCY
    # Celery makes the hub of the class that its connection asks for.
    worker._conninfo.requires_hub = LoopHub  # noqa: SLF001
    base = cast("type[Consumer]", symbol_by_name(cast("str", worker.consumer_cls)))
    worker.consumer_cls = consumer_class(base)
    worker.wait_for_soft_shutdown = partial(_wait, worker, worker.wait_for_soft_shutdown)


def _wait(worker: Worker, sleep: Callable[[], object]) -> None:
    # Celery sleeps for the time that running tasks get, and they would sleep with it.
    hub = worker.hub
    if isinstance(hub, LoopHub):
        hub.wait(hub.asyncio_loop.run_in_executor(None, sleep))
