"""What a worker was asked for and its pool cannot do: said when it starts, with what to use instead."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from celery.concurrency.prefork import TaskPool as PreforkPool

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.encodings import unread_encodings
from tomskit.celery._settings.tasks_and_worker import SPAWN_TIMEOUT
from tomskit.celery._tasks.task import AsyncTask
from tomskit.celery._worker.overview import pool_name
from tomskit.celery.asyncio_pool import AsyncioPool

if TYPE_CHECKING:
    from celery import Celery, Task

    from tomskit.celery._internals.celery_worker import Worker

__all__ = ("remarks_on",)

_DEFAULT_ALIVE_TIMEOUTS: Final = (4.0, SPAWN_TIMEOUT)
_DAY: Final = 86_400
_ONLY_ASYNCIO: Final = ("CELERY_WORKER_SYNC_CONCURRENCY", "CELERY_WORKER_SLOW_CALLBACK_DURATION")


def remarks_on(worker: Worker) -> Iterator[str]:
    """What will not be done, and what to use instead."""
    yield from _generators(worker.app)
    if isinstance(worker.app, AsyncApp):
        yield from _marks(worker.app)
        yield from map(str, unread_encodings(worker.app))
    if issubclass(worker.pool_cls, PreforkPool):
        if isinstance(worker.app, AsyncApp):
            yield from _not_of_asyncio(worker.app, "prefork")
        return
    name = pool_name(worker.pool_cls)
    yield from _of_processes(worker, name)
    if not issubclass(worker.pool_cls, AsyncioPool):
        if worker.autoscale:
            yield (
                f"--autoscale: the {name} pool cannot grow or shrink. Use the prefork or asyncio pool; "
                "here --concurrency says how many tasks run at once."
            )
        if isinstance(worker.app, AsyncApp):
            yield from _not_of_asyncio(worker.app, name)
    if name == "solo" and (worker.concurrency or 1) > 1:
        yield (
            f"--concurrency={worker.concurrency}: the solo pool runs one task at a time. Use the "
            "asyncio, threads or prefork pool."
        )
    yield from _limits_of_plain_tasks(worker, name)


def _of_processes(worker: Worker, name: str) -> Iterator[str]:
    if worker.max_tasks_per_child or worker.max_memory_per_child:
        given = [
            option
            for option, value in (
                ("--max-tasks-per-child", worker.max_tasks_per_child),
                ("--max-memory-per-child", worker.max_memory_per_child),
            )
            if value
        ]
        yield (
            f"{' and '.join(given)}: the {name} pool has no child processes that could be replaced. "
            "Use the prefork pool, or restart the worker from time to time."
        )
    if worker.pool_start_method == "spawn":
        yield f"CELERY_WORKER_POOL_START_METHOD=spawn: the {name} pool starts no processes."
    if worker.app.conf.worker_proc_alive_timeout not in _DEFAULT_ALIVE_TIMEOUTS:
        yield f"worker_proc_alive_timeout: the {name} pool starts no processes."
    if worker.optimization and worker.optimization != "default":
        yield f"-O {worker.optimization}: only the prefork pool distributes tasks to processes."


def _not_of_asyncio(app: AsyncApp, name: str) -> Iterator[str]:
    for setting in _ONLY_ASYNCIO:
        if setting in app.config.model_fields_set:
            yield f"{setting}: only the asyncio pool uses it, and this is the {name} pool."


def _generators(app: Celery) -> Iterator[str]:
    names = [
        task.name
        for task in _own_tasks(app)
        if inspect.isgeneratorfunction(inspect.unwrap(task.run))
    ]
    if names:
        yield (
            f"Tasks that are generator functions do nothing, as Celery does not iterate over what they "
            f"return: {_listed(names)}. Return a list, or send a task for each item."
        )


def _marks(app: AsyncApp) -> Iterator[str]:
    options = app.conf.broker_transport_options
    seconds = options.get("visibility_timeout") if options else None
    if not isinstance(seconds, (int, float)) or seconds < app.config.CELERY_ONCE_KEEP * _DAY:
        return
    names = [task.name for task in _own_tasks(app) if getattr(task, "_tomskit_once", False)]
    if names:
        yield (
            f"CELERY_ONCE_KEEP={app.config.CELERY_ONCE_KEEP:g}: the marks of {_listed(names)} are deleted "
            f"after that many days, and a message may come again after the visibility timeout, "
            f"{seconds / _DAY:.3g} days, and would run a second time. Make CELERY_ONCE_KEEP longer."
        )


def _limits_of_plain_tasks(worker: Worker, name: str) -> Iterator[str]:
    # Async tasks' limits hold under every pool.
    everywhere = worker.time_limit or worker.soft_time_limit
    names = [
        task.name
        for task in _own_tasks(worker.app)
        if not isinstance(task, AsyncTask)
        and (everywhere or task.time_limit or task.soft_time_limit)
    ]
    if names:
        yield (
            f"Time limits of plain functions are not enforced by the {name} pool: {_listed(names)}. "
            "Make them async def, or use the prefork pool."
        )


def _own_tasks(app: Celery) -> Iterator[Task[..., object]]:
    for name, task in sorted(app.tasks.items()):
        if not name.startswith("celery."):
            yield task


def _listed(names: list[str], most: int = 10) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
