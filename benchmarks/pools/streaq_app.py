"""The tasks for streaq. As a program, it fills the queue: `python -m benchmarks.pools.streaq_app sleep 10 0.1`."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import Protocol, cast

from benchmarks.pools.environment import (
    arguments,
    concurrency,
    count_task,
    in_portions,
    queue_url,
)

# No import statement: the type checkers have to pass without streaq.
_streaq = import_module("streaq")


class _Sent(Protocol):
    def __await__(self) -> Generator[object, object, "_Sent"]: ...


class _Task(Protocol):
    def enqueue(self, *args: object) -> _Sent: ...


class _Worker(AbstractAsyncContextManager[object], Protocol):
    def task(
        self, *, name: str, ttl: int = ...
    ) -> Callable[[Callable[..., Awaitable[None]]], _Task]: ...
    async def enqueue_many(self, tasks: Sequence[object], /) -> None: ...


@asynccontextmanager
async def quietly() -> AsyncGenerator[None]:
    # The command line offers only INFO and DEBUG; this runs after it has set up logging.
    logging.getLogger("streaq").setLevel(logging.WARNING)
    yield


_make_worker = cast("Callable[..., _Worker]", _streaq.Worker)
worker = _make_worker(redis_url=queue_url(), concurrency=concurrency(), lifespan=quietly)


@worker.task(name="noop")
async def noop() -> None:
    pass


@worker.task(name="counted", ttl=0)
async def counted() -> None:
    count_task()


@worker.task(name="sleep")
async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def fill(task: str, count: int, args: list[float]) -> None:
    enqueue = {"noop": noop, "counted": counted, "sleep": sleep}[task].enqueue

    async def send(portion: int) -> None:
        await worker.enqueue_many([enqueue(*args) for _ in range(portion)])

    async with worker:
        await in_portions(count, send)


if __name__ == "__main__":
    name, number, args = arguments()
    asyncio.run(fill(name, number, args))
