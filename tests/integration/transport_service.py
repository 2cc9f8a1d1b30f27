"""The application of the tests of the Redis transport, with settings of Celery's from the environment."""

from __future__ import annotations

import json
import os

from kombu.common import Broadcast

from tests.support.tasks import until_set
from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task
from tomskit.redis.redis_pool import redis_client

app = AsyncCelery("transport-service", config=CeleryConfig())
app.conf.update(json.loads(os.environ.get("SETTINGS", "{}")))
if "BROADCAST" in os.environ:
    app.conf.task_queues = (Broadcast(os.environ["BROADCAST"]),)


@async_shared_task
async def note(key: str, value: str) -> str:
    """Leave a value behind those of earlier tasks."""
    await redis_client.rpush(key, value)
    return value


@async_shared_task(acks_late=True)
async def hold(key: str, free: str) -> str:
    """As `note`, and wait until somebody sets a key."""
    await redis_client.rpush(key, "held")
    await until_set(free)
    return "free"
