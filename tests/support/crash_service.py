"""A service whose worker may be killed at any moment, configured by environment."""

import asyncio
import os
import signal

from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task
from tomskit.redis.redis_pool import redis_client

app = AsyncCelery("crash_service", config=CeleryConfig(), set_as_current=False)
app.conf.update(
    broker_transport_options={
        "visibility_timeout": float(os.environ.get("CRASH_VISIBILITY_TIMEOUT", "3")),
        # Celery looks every 100 s for what is to be delivered again, and takes 10 messages then.
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "unacked_restore_limit": 1000,
    }
)


@async_shared_task(acks_late=True, ignore_result=True)
async def run_once(number: int) -> None:
    await asyncio.sleep(0.001)
    await redis_client.hincrby("runs", str(number), 1)


@async_shared_task(ignore_result=True)
async def run_and_kill(number: int, deadly: int) -> None:
    """Acknowledged as it begins; the deadly one kills the worker, the first time."""
    await redis_client.hincrby("runs", str(number), 1)
    if number == deadly and await redis_client.set("killed", "1", nx=True):
        os.kill(os.getpid(), signal.SIGKILL)
