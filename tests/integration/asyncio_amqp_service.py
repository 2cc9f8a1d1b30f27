"""The tasks of asyncio_stop_service, on RabbitMQ, with heartbeats every second or less often."""

from __future__ import annotations

import os

from tests.integration import asyncio_stop_service
from tomskit.celery import AsyncCelery, CeleryConfig

__all__ = ("app", "asyncio_stop_service")

app = AsyncCelery(
    "asyncio-amqp",
    config=CeleryConfig(),
    broker=os.environ["AMQP_BROKER"],
    broker_heartbeat=int(os.environ.get("AMQP_HEARTBEAT", "2")),
    broker_transport_options={},
)
