"""The settings of the contenders' applications. Only standard modules: arq's environment has few packages."""

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

QUEUE = "BENCHMARK_QUEUE_URL"
RESULTS = "BENCHMARK_RESULTS_URL"
CONCURRENCY = "BENCHMARK_CONCURRENCY"
COUNT = "BENCHMARK_COUNT"
IGNORE = "BENCHMARK_IGNORE_RESULTS"

DAY = 86_400
"""Expiry of results in seconds for contenders without a default; Celery's default."""


def queue_url() -> str:
    return os.environ[QUEUE]


def results_url() -> str:
    return os.environ[RESULTS]


def concurrency() -> int:
    return int(os.environ[CONCURRENCY])


def ignore_results() -> bool:
    return bool(os.environ.get(IGNORE))


COUNTED = "counted"
"""The key in the results' database that is set when all tasks have run."""

_turns = itertools.count(1)


def count_task() -> None:
    """Count a task whose result is ignored; the last one sets the key."""
    if next(_turns) == int(os.environ[COUNT]):
        # Imported here, since programs that only fill a queue need no client.
        from redis import Redis

        redis = Redis.from_url(results_url())  # pyright: ignore[reportUnknownMemberType]
        redis.set(COUNTED, 1)


H = TypeVar("H")

TRIPS = "trips"


def arguments() -> tuple[str, int, list[float]]:
    """The command-line arguments of a program that fills a queue: task, count, task arguments."""
    task, count, *args = sys.argv[1:]
    return task, int(count), [float(arg) for arg in args]


async def trips(
    count: int, send: Callable[[], Awaitable[H]], wait: Callable[[H], Awaitable[object]]
) -> None:
    """Send no-ops to a running worker, await their results, and print the times as JSON."""

    async def trip() -> float:
        begun = time.perf_counter()
        await wait(await send())
        return time.perf_counter() - begun

    await trip()
    alone = [await trip() for _ in range(min(count, 20))]
    # The queue is empty and the worker runs, so it takes tasks while the client sends.
    at_once = await asyncio.gather(*(trip() for _ in range(count)))
    begun = time.perf_counter()
    sent: list[H] = []
    for first in range(0, count, 200):
        sent += await asyncio.gather(*(send() for _ in range(min(200, count - first))))
    sending = time.perf_counter() - begun
    for handle in sent:
        await wait(handle)
    print(json.dumps({"alone": alone, "at_once": at_once, "sending": count / sending}))


async def in_portions(
    count: int, send: Callable[[int], Coroutine[object, object, object]], portion: int = 200
) -> None:
    """Send `count` tasks in portions, since a client may open a connection for each."""
    for sent in range(0, count, portion):
        await send(min(portion, count - sent))
