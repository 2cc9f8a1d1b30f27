"""A task that is in the schedule from the start, and one that users of the shop schedule."""

from tomskit.celery import async_shared_task
from tomskit.redis.redis_pool import redis_client


@async_shared_task(every=2.0)
async def poll() -> None:
    await redis_client.incr("polled")


@async_shared_task
async def remind(name: str) -> None:
    await redis_client.incr(f"reminded:{name}")
