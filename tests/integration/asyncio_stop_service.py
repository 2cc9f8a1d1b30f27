"""Tasks for the tests of how an asyncio pool stops and how it lives through outages."""

from __future__ import annotations

import asyncio
import time

from celery import shared_task

from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task
from tomskit.redis.redis_pool import redis_client

app = AsyncCelery("asyncio-stop", config=CeleryConfig())


async def _note(key: str, what: str) -> None:
    await redis_client.rpush(key, what)


async def _work(key: str, seconds: float) -> str:
    await _note(key, "began")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        await _note(key, "cancelled")
        raise
    finally:
        await asyncio.sleep(0.05)
        await _note(key, "cleaned up")
    return "done"


@async_shared_task
async def early(key: str, seconds: float) -> str:
    return await _work(key, seconds)


@async_shared_task(acks_late=True)
async def late(key: str, seconds: float) -> str:
    return await _work(key, seconds)


@async_shared_task
async def swallow(key: str) -> None:
    await _note(key, "began")
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await _note(key, "swallowed")


@shared_task
def plain(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


@async_shared_task
async def add(a: int, b: int) -> int:
    return a + b


@async_shared_task
async def send_add(seconds: float) -> str | None:
    await asyncio.sleep(seconds)
    return add.delay(1, 2).id


@async_shared_task
async def longest_gap(seconds: float) -> float:
    """How late the loop has ever been in waking a coroutine that sleeps 10 ms each time."""
    loop = asyncio.get_running_loop()
    end, last, worst = loop.time() + seconds, loop.time(), 0.0
    while last < end:
        await asyncio.sleep(0.01)
        now = loop.time()
        last, worst = now, max(worst, now - last - 0.01)
    return worst


@async_shared_task
async def count(key: str, seconds: float) -> int:
    await asyncio.sleep(seconds)
    # The tasks' own Redis is another one than the broker's in the tests of outages.
    return int(await redis_client.incr(key))
