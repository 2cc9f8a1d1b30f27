"""The tasks of `benchmarks.faults`, as tomskit runs them."""

import asyncio

from tests.support.gaps import longest_gap

from benchmarks.faults.names import EARLY, GAP, LATE, OVER, RUNS, WATCH
from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task
from tomskit.redis.redis_pool import redis_client

app = AsyncCelery("faults", config=CeleryConfig())


async def _run(number: int, seconds: float) -> int:
    await asyncio.sleep(seconds)
    await redis_client.hincrby(RUNS, str(number), 1)
    return number


@async_shared_task(name=EARLY)
async def early(number: int, seconds: float) -> int:
    return await _run(number, seconds)


@async_shared_task(name=LATE, acks_late=True)
async def late(number: int, seconds: float) -> int:
    return await _run(number, seconds)


@async_shared_task(name=WATCH, ignore_result=True)
async def watch() -> None:
    """Measures the longest gap of the loop until it is told to end."""

    async def is_over() -> bool:
        return bool(await redis_client.get(OVER))

    await redis_client.set(GAP, await longest_gap(is_over))
