"""A service with a log handler that fails at the lines in which a text stands."""

from __future__ import annotations

import asyncio
import logging
import os

from celery.signals import after_setup_logger
from typing_extensions import override

from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task

app = AsyncCelery("failing-handler", config=CeleryConfig())


class FailingHandler(logging.Handler):
    """Sends lines to a server that is away, and does not call ``handleError``."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if os.environ["FAILS_AT"] in record.getMessage():
            raise OSError("the server of the log is away")


@after_setup_logger.connect
def add_handler(logger: logging.Logger, **_: object) -> None:
    logger.addHandler(FailingHandler())


@async_shared_task(acks_late=True)
async def double(number: int) -> int:
    return 2 * number


@async_shared_task
async def wait(seconds: float) -> None:
    await asyncio.sleep(seconds)


@async_shared_task
async def ignore_the_end() -> None:
    for _ in range(100):
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            continue
