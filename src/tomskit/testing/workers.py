"""A worker in the test's process."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

from celery.contrib.testing.worker import start_worker

from tomskit.celery.app import AsyncCelery

__all__ = ("worker",)


@contextmanager
def worker(
    app: AsyncCelery,
    *,
    pool: Literal["threads", "solo", "asyncio", "prefork"] = "threads",
    concurrency: int = 4,
    shutdown_timeout: float = 30.0,
) -> Generator[None]:
    """Run a worker of `app` in a thread of this process.

    It takes tasks when this begins, and has finished them and stopped when it ends.

    Args:
        app: The app; it becomes the current one. The asyncio pool needs a Redis or AMQP broker, the
            others work with ``memory://`` as well.
        pool: The worker's pool.
        concurrency: Tasks at once.
        shutdown_timeout: Seconds that running tasks have to finish when this ends.

    Raises:
        RuntimeError: The worker did not stop within `shutdown_timeout`.
    """
    with start_worker(
        app,
        pool=pool,
        concurrency=concurrency,
        perform_ping_check=False,
        shutdown_timeout=shutdown_timeout,
    ):
        yield
