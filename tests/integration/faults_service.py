"""Tasks for the tests of faults. They tell their own Redis what they do: that one has no fault."""

from __future__ import annotations

import asyncio
import gc
import os
import signal

from billiard.einfo import ExceptionInfo
from celery import shared_task

from tests.support.gaps import longest_gap
from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task
from tomskit.redis.redis_pool import redis_client

app = AsyncCelery("faults", config=CeleryConfig())


@async_shared_task
async def add(a: int, b: int) -> int:
    return a + b


@async_shared_task
async def count(key: str, seconds: float) -> int:
    """Sleeps, and counts."""
    await asyncio.sleep(seconds)
    return int(await redis_client.incr(key))


@async_shared_task(acks_late=True)
async def late(key: str, seconds: float) -> int:
    """The same, acknowledged afterwards."""
    await asyncio.sleep(seconds)
    return int(await redis_client.incr(key))


async def _freed(key: str = "free") -> None:
    while True:
        if await redis_client.get(key):
            return
        await asyncio.sleep(0.1)


@async_shared_task(acks_late=True)
async def late_when_set(key: str) -> None:
    """Counts as begun, and ends when this key is set."""
    await redis_client.incr("begun")
    await _freed(key)


@async_shared_task
async def count_when_free(key: str) -> int:
    """Counts as begun, waits until all are free, and counts."""
    await redis_client.incr("begun")
    await _freed()
    return int(await redis_client.incr(key))


@async_shared_task(acks_late=True)
async def late_when_free(key: str) -> int:
    """The same, acknowledged afterwards."""
    await redis_client.incr("begun")
    await _freed()
    return int(await redis_client.incr(key))


@async_shared_task(acks_late=True, track_started=False)
async def late_nothing() -> None:
    """Ends in the turn in which it began."""


@async_shared_task
async def fail_when_free() -> None:
    """Counts as begun, waits until all are free, counts, and fails."""
    await redis_client.incr("begun")
    await _freed()
    await redis_client.incr("failing")
    raise ValueError("all at once")


@async_shared_task(ignore_result=True)
async def count_tracebacks() -> None:
    """How many of Celery's copies of tracebacks there are at most, and how often that was looked at.

    It ends when somebody sets the key ``counted``.
    """
    most = 0
    while not await redis_client.get("counted"):
        most = max(most, sum(type(one) is ExceptionInfo for one in gc.get_objects()))
        await redis_client.set("tracebacks", most)
        await redis_client.incr("looks")
        await asyncio.sleep(0.1)


@async_shared_task
async def length(text: str) -> int:
    await redis_client.incr("lengths")
    return len(text)


@async_shared_task
async def big(size: int) -> str:
    """A long result."""
    return "x" * size


@shared_task
def plain(n: int) -> int:
    return n + 1


@shared_task
def process() -> int:
    """The id of the process in which it runs."""
    return os.getpid()


@async_shared_task
async def die_when_free() -> None:
    """Waits until all are free, and ends its process."""
    await _freed()
    os.kill(os.getpid(), signal.SIGKILL)


@async_shared_task(ignore_result=True)
async def ignored(key: str) -> None:
    await redis_client.incr(key)


@async_shared_task
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@async_shared_task
async def send(n: int) -> str:
    """Sends another task."""
    return (await add.adelay(n, 1)).id


@shared_task
def send_plainly(n: int) -> str:
    """The same, where the thread waits for the broker."""
    return add.delay(n, 1).id


@async_shared_task(ignore_result=True)
async def watch() -> None:
    """How late the loop has ever been in waking a coroutine, beyond what a thread was.

    It ends when somebody sets the key ``watched``, and writes the seconds to ``gap``.
    """

    async def is_over() -> bool:
        return bool(await redis_client.get("watched"))

    await redis_client.set("gap", await longest_gap(is_over))
