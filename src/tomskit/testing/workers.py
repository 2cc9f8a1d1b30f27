"""A worker in the test's process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal

from celery.contrib.testing.worker import TestWorkController, start_worker
from typing_extensions import override

from tomskit.celery._worker.logging import note_format
from tomskit.celery.app import AsyncCelery
from tomskit.errors import ConfigurationError

__all__ = ("worker",)

_IN_MEMORY: Final = ("cache+memory", "memory")
_POLLING_INTERVAL: Final = 0.02
"""Seconds between two looks for messages in memory. kombu lets a second pass, for each task and each end."""
_LOGGERS: Final = (None, "celery", "celery.task", "multiprocessing")
"""The loggers that Celery sets up for a worker; None is the root."""
_LONGEST_WAIT: Final = 0.1
"""Seconds that a worker waits for a message in memory until it looks whether it is to stop. Celery waits two
seconds, and two more after it has looked."""


@contextmanager
def worker(
    app: AsyncCelery,
    *,
    pool: Literal["threads", "solo", "asyncio", "prefork"] = "threads",
    concurrency: int = 4,
    shutdown_timeout: float = 30.0,
) -> Generator[None]:
    """Run a worker of `app` in a thread of this process.

    It takes tasks when this begins, and has finished them and stopped when it ends. Logging is then as it was before:
    Celery sets it up for a worker, with errors only.

    Args:
        app: The app; it becomes the current one. The asyncio pool needs a Redis or AMQP broker, solo
            and threads work with ``memory://`` as well. The processes of prefork need results that
            are not in the memory of one.
        pool: The worker's pool.
        concurrency: Tasks at once.
        shutdown_timeout: Seconds that running tasks have to finish when this ends.

    Raises:
        ConfigurationError: The pool is prefork, and results are kept in memory.
        RuntimeError: The worker did not stop within `shutdown_timeout`.
    """
    if pool == "prefork" and str(app.conf.result_backend).startswith(_IN_MEMORY):
        raise ConfigurationError(
            f"Results in {app.conf.result_backend} stay in the pool's processes, where the test cannot "
            'see them: use pool="threads", or a result backend with a server.'
        )
    with (
        _logging_kept(),
        _looked_at_often(app),
        start_worker(
            app,
            pool=pool,
            concurrency=concurrency,
            perform_ping_check=False,
            shutdown_timeout=shutdown_timeout,
            WorkController=_StopsSoon if _is_in_memory(app) else TestWorkController,
        ),
    ):
        yield


@contextmanager
def _logging_kept() -> Generator[None]:
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(one, one.level, one.propagate, one.handlers[:]) for one in loggers]
    try:
        yield
    finally:
        for logger, level, propagates, handlers in before:
            logger.setLevel(level)
            logger.propagate = propagates
            logger.handlers[:] = handlers
        # What lines of a worker show is no matter of others.
        note_format()


class _StopsSoon(TestWorkController):
    """A worker that does not wait long for its next message where it is to stop."""

    __test__ = False

    @override
    def on_consumer_ready(self, consumer: Any) -> None:
        connection = consumer.connection
        drain: Callable[..., object] = connection.drain_events

        def drain_events(*, timeout: float) -> object:
            return drain(timeout=min(timeout, _LONGEST_WAIT))

        connection.drain_events = drain_events
        super().on_consumer_ready(consumer)


def _is_in_memory(app: AsyncCelery) -> bool:
    return str(app.conf.broker_read_url or app.conf.broker_url).startswith(_IN_MEMORY)


@contextmanager
def _looked_at_often(app: AsyncCelery) -> Generator[None]:
    """A broker in memory is looked at often, unless the app says how often."""
    before: Mapping[str, object] = app.conf.broker_transport_options
    if _is_in_memory(app):
        app.conf.broker_transport_options = {"polling_interval": _POLLING_INTERVAL, **before}
    try:
        yield
    finally:
        app.conf.broker_transport_options = before
