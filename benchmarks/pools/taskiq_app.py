"""The tasks for taskiq. As a program, it fills the queue: `python -m benchmarks.pools.taskiq_app sleep 10 0.1`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Protocol, cast

from benchmarks.pools.environment import (
    DAY,
    TRIPS,
    arguments,
    count_task,
    ignore_results,
    in_portions,
    queue_url,
    results_url,
    trips,
)

# No import statement: the type checkers have to pass without taskiq.
_taskiq_redis = import_module("taskiq_redis")


class _Sent(Protocol):
    def wait_result(self, *, check_interval: float) -> Awaitable[object]: ...


class _Task(Protocol):
    def kiq(self, *args: object) -> Awaitable[_Sent]: ...


class _Broker(Protocol):
    def with_result_backend(self, result_backend: object, /) -> _Broker: ...
    def task(self, task_name: str, /) -> Callable[[Callable[..., Awaitable[None]]], _Task]: ...
    async def startup(self) -> None: ...
    async def shutdown(self) -> None: ...


_make_broker = cast("Callable[[str], _Broker]", _taskiq_redis.ListQueueBroker)
_make_results = cast("Callable[..., object]", _taskiq_redis.RedisAsyncResultBackend)

broker = _make_broker(queue_url())
if not ignore_results():
    broker = broker.with_result_backend(_make_results(results_url(), result_ex_time=DAY))


@broker.task("noop")
async def noop() -> None:
    pass


@broker.task("counted")
async def counted() -> None:
    count_task()


@broker.task("sleep")
async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def fill(task: str, count: int, args: list[float]) -> None:
    kiq = {"noop": noop, "counted": counted, "sleep": sleep}[task].kiq

    async def send(portion: int) -> None:
        await asyncio.gather(*(kiq(*args) for _ in range(portion)))

    await broker.startup()
    await in_portions(count, send)
    await broker.shutdown()


async def make_trips(count: int) -> None:
    await broker.startup()
    # taskiq polls for each result, every 0.2 s by default.
    await trips(count, noop.kiq, lambda sent: sent.wait_result(check_interval=0.05))
    await broker.shutdown()


if __name__ == "__main__":
    task, number, args = arguments()
    asyncio.run(make_trips(number) if task == TRIPS else fill(task, number, args))
