"""An application in whose worker a thread makes a client of the results' store while the pool forks."""

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING

from celery.backends.redis import RedisBackend

from tests.support.patience import patience
from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task
from tomskit.celery._running import forks

# On a busy machine a thread may need longer than a fork waits for it.
setattr(forks, "_PATIENCE_SECONDS", patience(30))  # noqa: B010 (it is Final)

logger = logging.getLogger(__name__)


class SlowBackend(RedisBackend):
    """Needs a second to make the client of a thread of the worker, if the worker does not fork meanwhile."""

    if not TYPE_CHECKING:  # no part of its types

        def _create_client(self, **params: object) -> object:
            if threading.current_thread().name == "tomskit-results":
                begins, is_over = threading.Event(), threading.Event()
                # The last one that is registered is called first: before a fork waits for anything.
                os.register_at_fork(before=begins.set, after_in_parent=is_over.set)
                logger.warning("A client is being made")
                assert begins.wait(patience(30))
                logger.warning("Forked meanwhile: %s", is_over.wait(1))
            return super()._create_client(**params)


app = AsyncCelery("slow-client", config=CeleryConfig())
app.loader.override_backends = {"redis": f"{__name__}:SlowBackend"}


@async_shared_task
async def process() -> int:
    """The id of the process that runs tasks."""
    return os.getpid()


@async_shared_task
async def loaded(module: str) -> bool:
    """Whether the process that runs tasks has a module before a task has asked for it."""
    return module in sys.modules
