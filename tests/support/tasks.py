"""What tasks of more than one service do. Each service makes tasks of its own of these functions."""

import asyncio
import time

from redis import Redis

from tomskit.celery import BoundTask, CeleryConfig
from tomskit.redis.redis_pool import redis_client


async def add(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


async def total(values: list[int]) -> int:
    return sum(values)


async def fail(message: str) -> None:
    await asyncio.sleep(0)
    raise ValueError(message)


async def retry_until(self: BoundTask, attempt: int) -> list[object]:
    await asyncio.sleep(0)
    if self.request.retries < attempt:
        raise self.retry(countdown=0)
    return [self.request.id, self.request.retries]


async def fail_until(self: BoundTask, attempt: int) -> int:
    await asyncio.sleep(0)
    if self.request.retries < attempt:
        raise KeyError(attempt)
    return self.request.retries


async def touch(key: str) -> str:
    await redis_client.set(key, "touched", ex=60)
    return "nobody keeps this"


async def now() -> float:
    return time.time()


async def sleep(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


def plain_redis(config: CeleryConfig) -> Redis:
    """A client of the Redis that `redis_client` uses, for plain tasks."""
    return Redis(
        host=config.CELERY_WORKER_REDIS_HOST,
        port=config.CELERY_WORKER_REDIS_PORT,
        db=config.CELERY_WORKER_REDIS_DB,
        decode_responses=True,
    )


async def until_set(key: str, pause: float = 0.02) -> str:
    """The value of a key, as soon as somebody sets it."""
    while (value := await redis_client.get(key)) is None:  # noqa: ASYNC110 (others set it)
        await asyncio.sleep(pause)
    return str(value)


async def wait_for(key: str) -> str:
    """Runs until somebody sets the key."""
    return await until_set(key)
