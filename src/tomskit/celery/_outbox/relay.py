"""Relay: a worker's thread that publishes messages that other processes have left."""

from __future__ import annotations

import asyncio
import mmap
import struct
import threading
import time
from contextlib import suppress
from typing import Final

from celery.utils.log import get_logger
from typing_extensions import TypedDict

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.retrying import Outage
from tomskit.celery._outbox.publisher import is_in_memory
from tomskit.celery._outbox.store import BATCH, OutboxStore, Waiting
from tomskit.errors import MissingDriverError
from tomskit.sqlalchemy import DatabaseConfig, DatabaseProvider
from tomskit.sqlalchemy.database import Database

__all__ = ("Gauge", "OutboxStats", "Relay", "gauge")

logger: Final = get_logger(__name__)

_LOOK_FOR_TABLES_SECONDS: Final = 60.0
_FORGET_SECONDS: Final = 60.0
_MARKS_OF_A_ROUND: Final = 20_000
_STOP_SECONDS: Final = 10.0


class OutboxStats(TypedDict):
    """What ``inspect stats`` shows under ``outbox``."""

    waiting: int
    """Messages that are committed and not yet published."""
    oldest_seconds: float
    looked_seconds_ago: float


class Gauge:
    """What the relay of a worker has seen last, for all processes that the worker forks."""

    _FORMAT: Final = struct.Struct("dqd")

    def __init__(self) -> None:
        # Shared with forked processes. Clocks that are monotonic are those of the system.
        self._memory = mmap.mmap(-1, self._FORMAT.size)

    def note(self, waiting: Waiting) -> None:
        """Note what was seen just now."""
        values = (time.monotonic(), waiting.count, waiting.oldest_seconds)
        self._FORMAT.pack_into(self._memory, 0, *values)

    def seconds_ago(self) -> float | None:
        """When something was noted; None if it never was."""
        noted, _, _ = self._FORMAT.unpack_from(self._memory, 0)
        return time.monotonic() - noted if noted else None

    def stats(self) -> OutboxStats | None:
        """What was seen last; None if nobody has looked."""
        ago = self.seconds_ago()
        if ago is None:
            return None
        _, count, oldest = self._FORMAT.unpack_from(self._memory, 0)
        return OutboxStats(
            waiting=count, oldest_seconds=round(oldest, 1), looked_seconds_ago=round(ago, 1)
        )


gauge: Final = Gauge()
"""That of this worker; made before it forks."""


class Relay:
    """Looks for messages that wait, publishes them, and deletes old marks, in a thread of its own.

    One process of a worker does so at a time. Nothing happens where no database is configured, or
    where it has no tables of ours.

    Args:
        app: Whose messages they are.
    """

    def __init__(self, app: AsyncApp) -> None:
        self._app = app
        self._pause = app.config.CELERY_OUTBOX_INTERVAL / 3
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = threading.Event()
        self._wake: asyncio.Event | None = None
        self._has_tables = False
        self._forgot_at = 0.0
        self._database_outage = Outage("look for committed messages", "the database", logger)
        self._broker_outage = Outage("publish committed messages", "the broker", logger)

    def start(self) -> None:
        """Start the thread, if there is a database."""
        config = _database_of(self._app)
        if config is None or is_in_memory(config):
            return
        self._thread = threading.Thread(
            target=self._run, args=(config,), name="tomskit-outbox", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it, but not for a server that does not answer."""
        self._ending.set()
        loop, wake = self._loop, self._wake
        if loop is not None and wake is not None:
            with suppress(RuntimeError):  # it has ended meanwhile
                loop.call_soon_threadsafe(wake.set)
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    def _run(self, config: DatabaseConfig) -> None:
        self._app.set_current()
        try:
            asyncio.run(self._main(config))
        except Exception:
            logger.exception("This worker publishes no messages any more that others have left")

    async def _main(self, config: DatabaseConfig) -> None:
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        database = Database()
        database.open(config)
        store = OutboxStore(self._app, database)
        try:
            while not self._ending.is_set():
                pause = await self._round(store)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
        except MissingDriverError as exc:
            # Tasks that use the database raise it as well.
            logger.debug("No messages are looked for: %s", exc)
        finally:
            await database.close()

    async def _round(self, store: OutboxStore) -> float:
        """Publish and delete what there is; returns for how many seconds to wait."""
        ago = gauge.seconds_ago()
        if ago is not None and ago < self._pause * 0.9:
            # Another process of this worker has just looked.
            return self._pause - ago
        try:
            if not self._has_tables:
                self._has_tables = await store.has_tables()
                if not self._has_tables:
                    return max(self._pause, _LOOK_FOR_TABLES_SECONDS)
            await self._publish(store)
            gauge.note(await store.waiting())
            await self._forget(store)
        except MissingDriverError:
            raise
        except Exception as exc:  # noqa: BLE001 (whatever the driver raises)
            if self._has_tables:
                self._database_outage.failed(exc)
            else:
                # Perhaps nobody uses them, and then nobody wants to hear of it.
                logger.debug("Cannot look for tables: %r", exc)
        else:
            self._database_outage.ended()
        return self._pause

    async def _publish(self, store: OutboxStore) -> None:
        published = 0
        while not self._ending.is_set():
            batch = await store.publish_due()
            published += len(batch.taken)
            if batch.away is not None:
                self._broker_outage.failed(batch.away)
                break
            if batch.taken:
                self._broker_outage.ended()
            if batch.size < BATCH:
                break
        if published:
            logger.info("Published %d messages that were left after their commit", published)

    async def _forget(self, store: OutboxStore) -> None:
        if time.monotonic() - self._forgot_at < _FORGET_SECONDS and self._forgot_at:
            return
        self._forgot_at = time.monotonic()
        forgotten = 0
        while forgotten < _MARKS_OF_A_ROUND and not self._ending.is_set():
            some = await store.forget_marks(days=self._app.config.CELERY_ONCE_KEEP)
            forgotten += some
            if not some:
                break


def _database_of(app: AsyncApp) -> DatabaseConfig | None:
    """The database of the app's tasks, if anything was said about where it is."""
    for provider in app.resources.providers:
        if isinstance(provider, DatabaseProvider) and provider.name == "database":
            config = provider.config
            return config if config.model_fields_set else None
    return None
