"""Servers that go away and come back while the tasks of `asyncio_stop_service` run."""

from collections.abc import Sequence
from typing import Final

from celery.result import AsyncResult

from tests.support.deployment import TIMEOUT, Deployment
from tests.support.patience import wait_until

SERVICE: Final = "tests.integration.asyncio_stop_service"
OUTAGE: Final = 5.0
"""Seconds. Long enough for several attempts to connect, with Celery's pauses between them."""
FREE: Final = "free"
"""The key that tasks wait for."""
SLOTS: Final = 100
"""How many tasks the worker runs at once."""


def outcomes(sent: Sequence[AsyncResult[object]]) -> list[object]:
    """The results of tasks.

    By looking at them: a client that subscribes just when a result is stored may wait for ever.
    """
    for result in sent:
        wait_until(result.ready, 60, "the task has ended")
    return [result.get(timeout=TIMEOUT) for result in sent]


def set_free(deployment: Deployment) -> None:
    """Let the tasks go on that wait for FREE."""
    with deployment.redis.client(deployment.redis_db.result_db) as client:
        client.set(FREE, "yes")
