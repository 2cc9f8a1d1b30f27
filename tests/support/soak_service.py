"""Tasks of many kinds, for a worker that runs a very long time: `benchmarks.endurance`."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Final

import httpx
from celery.exceptions import SoftTimeLimitExceeded

from tomskit.celery import (
    AsyncCelery,
    BoundTask,
    CeleryConfig,
    async_shared_task,
    chain,
    chord,
    group,
)
from tomskit.redis.redis_pool import redis_client

app = AsyncCelery("soak", config=CeleryConfig())

DONE: Final = "done"
"""The hash in the tasks' Redis that counts by kind what has run to its end."""


async def _done(kind: str) -> None:
    await redis_client.hincrby(DONE, kind, 1)


@async_shared_task
async def held() -> tuple[int, int]:
    """How many blocks of memory Python has handed out, and how many objects its collector knows."""
    gc.collect()
    return sys.getallocatedblocks(), len(gc.get_objects())


@async_shared_task
async def add(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


@async_shared_task
async def total(values: list[int]) -> int:
    return sum(values)


@async_shared_task(ignore_result=True)
async def count(kind: str, value: int) -> None:
    """The last task of a chain, a group or a chord."""
    assert value >= 0
    await _done(kind)


@async_shared_task
async def nothing(number: int) -> int:
    return number


@async_shared_task
async def wait(number: int) -> int:
    await asyncio.sleep(0.05)
    return number


@async_shared_task
async def fail(number: int) -> int:
    await asyncio.sleep(0)
    msg = f"as it should: {number}"
    raise ValueError(msg)


@async_shared_task(bind=True, max_retries=2)
async def retry(self: BoundTask, number: int) -> int:
    await asyncio.sleep(0)
    if not self.request.retries:
        raise self.retry(countdown=0)
    await _done("retry")
    return number


@async_shared_task(soft_time_limit=0.2, time_limit=30)
async def limited(number: int) -> int:
    """Is interrupted by its soft limit, which it catches."""
    try:
        await asyncio.sleep(3600)
    except SoftTimeLimitExceeded:
        await _done("limited")
    return number


@async_shared_task(acks_late=True)
async def late(number: int) -> int:
    await asyncio.sleep(0)
    return number


@async_shared_task
async def use_http(number: int) -> int:
    """Make an HTTP client, which is a cycle with a TLS context, and drop it."""
    client = httpx.AsyncClient()
    await asyncio.sleep(0.01)
    assert not client.is_closed
    return number


@async_shared_task
async def send_chain(number: int) -> int:
    """Three tasks."""
    await chain(add.s(number, 1), add.p(1), count_chain.p()).adelay()
    return number


@async_shared_task(ignore_result=True)
async def count_chain(value: int) -> None:
    assert value > 0
    await _done("chain")


@async_shared_task
async def send_group(number: int) -> int:
    """Three tasks."""
    await group(count.s("group", number) for _ in range(3)).adelay()
    return number


@async_shared_task
async def send_chord(number: int) -> int:
    """Five tasks."""
    members = group(add.s(number, each) for each in range(3))
    await chain(chord(members, total.p()), count_chord.p()).adelay()
    return number


@async_shared_task(ignore_result=True)
async def count_chord(value: int) -> None:
    assert value > 0
    await _done("chord")
