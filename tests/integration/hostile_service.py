"""The application of workers that get messages which nobody can read."""

from __future__ import annotations

import json

from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task
from tomskit.redis.redis_pool import redis_client

app = AsyncCelery("hostile-service", config=CeleryConfig())

SEEN = "seen"
"""The list of the arguments of all calls."""


@async_shared_task(name="add")
async def add(left: int, right: int) -> int:
    await redis_client.rpush(SEEN, json.dumps([left, right]))
    return left + right
