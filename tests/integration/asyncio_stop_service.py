"""Tasks for the tests of how an asyncio pool stops and how it lives through outages."""

from __future__ import annotations

import asyncio
import time

from celery import shared_task
from kombu.exceptions import OperationalError

from tests.support.tasks import plain_redis, until_set
from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task
from tomskit.redis.redis_pool import redis_client

app = AsyncCelery("asyncio-stop", config=CeleryConfig())


_POLL_SECONDS = 0.2
"""Long, for hundreds may wait at the same time."""


async def _note(key: str, what: str) -> None:
    await redis_client.rpush(key, what)


async def _work(key: str, free: str) -> str:
    await _note(key, "began")
    try:
        await until_set(free, _POLL_SECONDS)
    except asyncio.CancelledError:
        await _note(key, "cancelled")
        raise
    finally:
        await asyncio.sleep(0.05)
        await _note(key, "cleaned up")
    return "done"


@async_shared_task
async def early(key: str, free: str) -> str:
    """Runs until somebody sets the key `free`."""
    return await _work(key, free)


@async_shared_task(acks_late=True)
async def late(key: str, free: str) -> str:
    """Runs until somebody sets the key `free`."""
    return await _work(key, free)


@async_shared_task
async def swallow(key: str) -> None:
    await _note(key, "began")
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await _note(key, "swallowed")


@shared_task
def plain(free: str) -> str:
    """Blocks its thread until somebody sets the key `free`."""
    with plain_redis(app.config) as client:
        while client.get(free) is None:
            time.sleep(0.02)
    return "done"


@async_shared_task
async def add(a: int, b: int) -> int:
    return a + b


@async_shared_task
async def send_add(free: str) -> str | None:
    await until_set(free, _POLL_SECONDS)
    return add.delay(1, 2).id


@async_shared_task
async def asend_add(free: str) -> str | None:
    await until_set(free, _POLL_SECONDS)
    return (await add.adelay(1, 2)).id


@async_shared_task
async def asend_add_in_child(free: str) -> str | None:
    await until_set(free, _POLL_SECONDS)
    [sent] = await asyncio.gather(add.options(priority=3).adelay(1, 2))
    return sent.id


@async_shared_task
async def asend_chain(free: str) -> str | None:
    await until_set(free, _POLL_SECONDS)
    return (await (add.s(1, 1) | add.s(1)).adelay()).id


@async_shared_task
async def asend_impatiently(free: str) -> str:
    await until_set(free, _POLL_SECONDS)
    try:
        await add.aapply_async((1, 2), retry_policy={"max_retries": 1, "interval_start": 0.1})
    except OperationalError as exc:
        await redis_client.incr("given up")
        return f"{type(exc).__name__} raised"
    return "sent"


@async_shared_task
async def longest_gap(seconds: float) -> float:
    """How late the loop has ever been in waking a coroutine that sleeps 10 ms each time.

    A thread that does the same tells how late everything is because the machine is busy.
    """
    end = time.monotonic() + seconds
    thread = asyncio.create_task(asyncio.to_thread(_longest_gap_of_a_thread, end))
    last, worst = time.monotonic(), 0.0
    while last < end:
        await asyncio.sleep(0.01)
        now = time.monotonic()
        last, worst = now, max(worst, now - last - 0.01)
    return worst - await thread


def _longest_gap_of_a_thread(end: float) -> float:
    last, worst = time.monotonic(), 0.0
    while last < end:
        time.sleep(0.01)
        now = time.monotonic()
        last, worst = now, max(worst, now - last - 0.01)
    return worst


@async_shared_task
async def count(key: str, seconds: float) -> int:
    await asyncio.sleep(seconds)
    # The tasks' own Redis is another one than the broker's in the tests of outages.
    return int(await redis_client.incr(key))


@async_shared_task
async def count_when_free(key: str, free: str) -> int:
    await until_set(free, _POLL_SECONDS)
    return int(await redis_client.incr(key))
