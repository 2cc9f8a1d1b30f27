import asyncio
import logging

import errors
import json_logs
import metrics
import tracing

from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task

json_logs.connect()
errors.connect()
tracing.connect()
metrics.connect()
app = AsyncCelery("shop", config=CeleryConfig())
logger = logging.getLogger(__name__)


@async_shared_task
async def charge(cents: int) -> int:
    logger.info("charging %s", cents)
    with tracing.tracer.start_as_current_span("payment"):
        await asyncio.sleep(0.01)
    if cents < 0:
        raise ValueError(f"Nobody can pay {cents}")
    return cents
