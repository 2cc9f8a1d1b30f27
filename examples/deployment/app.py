"""The app that the image contains: ``celery -A app worker`` starts a worker."""

import asyncio

from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task

app = AsyncCelery("shop", config=CeleryConfig())


@async_shared_task(acks_late=True)
async def ship(order: int, seconds: float = 0.0) -> int:
    """Send an order; if the worker is stopped meanwhile, another one does it again."""
    await asyncio.sleep(seconds)
    return order
