"""A service whose tasks fail with errors whose classes do what no reader of an error expects."""

from __future__ import annotations

import asyncio

from celery import shared_task

from tests.support.odd_errors import readable, unshowable
from tomskit.celery import AsyncCelery, BoundTask, CeleryConfig, async_shared_task
from tomskit.redis.redis_pool import redis_client

app = AsyncCelery("odd_errors_service", config=CeleryConfig(), set_as_current=False)


@async_shared_task
async def fail(kind: str) -> int:
    await asyncio.sleep(0)
    raise readable(kind)


@async_shared_task(acks_late=True, reject_on_worker_lost=True)
async def fail_unshowably(kind: str, key: str) -> int:
    await redis_client.incr(key)
    raise unshowable(kind)


@async_shared_task(bind=True, max_retries=1)
async def retry_with(self: BoundTask, kind: str) -> int:
    raise self.retry(exc=readable(kind), countdown=0)


@async_shared_task(autoretry_for=(Exception,), max_retries=1, default_retry_delay=0)
async def retry_for(kind: str) -> int:
    raise readable(kind)


@shared_task(bind=True, max_retries=1)
def retry_plainly(self: BoundTask, kind: str) -> int:
    raise self.retry(exc=readable(kind), countdown=0)


@async_shared_task
async def double(number: int) -> int:
    return 2 * number


@async_shared_task
async def add_up(numbers: list[int]) -> int:
    return sum(numbers)
