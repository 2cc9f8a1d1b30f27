"""The tasks for arq. As a program, it fills the queue: `python -m benchmarks.pools.arq_app sleep 10 0.1`."""

import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import ClassVar, Protocol, cast

from benchmarks.pools.environment import (
    TRIPS,
    arguments,
    concurrency,
    count_task,
    ignore_results,
    in_portions,
    queue_url,
    trips,
)

# No import statement: the type checkers have to pass without arq.
_connections = import_module("arq.connections")


class _Job(Protocol):
    def result(self, *, poll_delay: float) -> Awaitable[object]: ...


class _Pool(Protocol):
    def enqueue_job(self, function: str, /, *args: object) -> Awaitable[_Job]: ...
    async def aclose(self) -> None: ...


_make_settings = cast("Callable[[str], object]", _connections.RedisSettings.from_dsn)
_make_pool = cast("Callable[[object], Awaitable[_Pool]]", _connections.create_pool)


async def noop(_: dict[str, object]) -> None:
    pass


async def counted(_: dict[str, object]) -> None:
    count_task()


async def sleep(_: dict[str, object], seconds: float) -> None:
    await asyncio.sleep(seconds)


class WorkerSettings:
    """The settings for arq's command line."""

    functions: ClassVar = [noop, counted, sleep]
    redis_settings: ClassVar = _make_settings(queue_url())
    max_jobs: ClassVar = concurrency()
    keep_result: ClassVar = 0 if ignore_results() else 3600


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"arq": {"handlers": ["console"], "level": "WARNING"}},
}
"""arq's default configuration logs two lines per job."""


async def fill(task: str, count: int, args: list[float]) -> None:
    pool = await _make_pool(WorkerSettings.redis_settings)

    async def send(portion: int) -> None:
        await asyncio.gather(*(pool.enqueue_job(task, *args) for _ in range(portion)))

    await in_portions(count, send)
    await pool.aclose()


async def make_trips(count: int) -> None:
    pool = await _make_pool(WorkerSettings.redis_settings)
    # arq polls for each result, every 0.5 s by default.
    await trips(count, lambda: pool.enqueue_job("noop"), lambda job: job.result(poll_delay=0.05))
    await pool.aclose()


if __name__ == "__main__":
    name, number, args = arguments()
    asyncio.run(make_trips(number) if name == TRIPS else fill(name, number, args))
