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
from tomskit.defaults import is_configured
from tomskit.errors import MissingDriverError
from tomskit.sqlalchemy import DatabaseConfig, DatabaseProvider
from tomskit.sqlalchemy.database import Database

__all__ = ("Gauge", "OutboxStats", "Relay", "gauge", "waiting_in")

logger: Final = get_logger(__name__)

_LOOK_FOR_TABLES_SECONDS: Final = 60.0
_FORGET_SECONDS: Final = 60.0
_MARKS_OF_A_ROUND: Final = 20_000
_PAUSES_OF_OTHERS: Final = 21
"""For how many pauses messages of other apps wait before a worker says so."""
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
        self._broker_outage = Outage("publish committed messages", "the broker", logger)

    def start(self) -> None:
        """Start the thread, if there is a database."""
        configs = _databases_of(self._app)
        if configs:
            self._thread = threading.Thread(
                target=self._run, args=(configs,), name="tomskit-outbox", daemon=True
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

    def _run(self, configs: list[DatabaseConfig]) -> None:
        self._app.set_current()
        try:
            asyncio.run(self._main(configs))
        except Exception:
            logger.exception(
                "This worker no longer publishes messages that other processes have left"
            )

    async def _main(self, configs: list[DatabaseConfig]) -> None:
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        looks = [_Look(self._app, config) for config in configs]
        try:
            while not self._ending.is_set():
                pause = await self._round(looks)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
        finally:
            for look in looks:
                await look.close()

    async def _round(self, looks: list[_Look]) -> float:
        """Publish and delete what there is; returns for how many seconds to wait."""
        ago = gauge.seconds_ago()
        if ago is not None and ago < self._pause * 0.9:
            # Another process of this worker has just looked.
            return self._pause - ago
        seen = [waiting for look in looks if (waiting := await self._look(look)) is not None]
        if seen:
            oldest = max(one.oldest_seconds for one in seen)
            gauge.note(Waiting(sum(one.count for one in seen), oldest))
        return self._pause

    async def _look(self, look: _Look) -> Waiting | None:
        """Publish and delete what there is in one database; returns what is left, if that is known."""
        try:
            if not await look.has_tables():
                await look.rest()
                return None
            await self._publish(look.store)
            waiting = await look.store.waiting()
            look.tell_of_others(waiting, patience=self._pause * _PAUSES_OF_OTHERS)
            await self._forget(look)
        except MissingDriverError as exc:
            # Tasks that use the database raise it as well.
            logger.debug("No messages are looked for: %s", exc)
            look.is_possible = False
        except Exception as exc:  # noqa: BLE001 (whatever the driver raises)
            look.failed(exc)
        else:
            look.outage.ended()
            return waiting
        return None

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

    async def _forget(self, look: _Look) -> None:
        if not look.is_time_to_forget():
            return
        forgotten = 0
        while forgotten < _MARKS_OF_A_ROUND and not self._ending.is_set():
            some = await look.store.forget_marks(days=self._app.config.CELERY_ONCE_KEEP)
            forgotten += some
            if not some:
                break


class _Look:
    """One database, and whether there is something to look for."""

    def __init__(self, app: AsyncApp, config: DatabaseConfig) -> None:
        self._database = Database()
        self._database.open(config)
        self.store = OutboxStore(app, self._database)
        self.outage = Outage("look for committed messages", "the database", logger)
        self.is_possible = True
        self._has_tables = False
        self._next_look = 0.0
        self._next_forgetting = 0.0
        self._has_told_of_others = False

    async def has_tables(self) -> bool:
        """Whether it has our tables; that is asked for once a minute until it has."""
        now = time.monotonic()
        if not self._has_tables and self.is_possible and now >= self._next_look:
            self._next_look = now + _LOOK_FOR_TABLES_SECONDS
            self._has_tables = await self.store.has_tables()
        return self._has_tables

    async def rest(self) -> None:
        """Keep no connection to a database in which there is nothing to do."""
        if self.is_possible:
            await self._database.engine.dispose()

    def failed(self, exc: Exception) -> None:
        """Note that the database was away."""
        if self._has_tables:
            self.outage.failed(exc)
        else:
            # Perhaps nobody uses them, and then nobody wants to hear of it.
            logger.debug("Cannot look for tables: %r", exc)
            self._next_look = 0.0

    def tell_of_others(self, waiting: Waiting, *, patience: float) -> None:
        """Say, once, that messages of other apps wait for longer than `patience` seconds."""
        is_long = waiting.oldest_of_others > patience
        if is_long and not self._has_told_of_others:
            logger.warning(
                "%d messages in tomskit_outbox have waited for up to %d s and are not published by this worker, "
                "as they were committed by an app with another broker. A worker of that app publishes them. If "
                "it has the same broker under another host, give both apps the same name: AsyncCelery(name).",
                waiting.others,
                waiting.oldest_of_others,
            )
        self._has_told_of_others = is_long

    def is_time_to_forget(self) -> bool:
        """Whether old marks are to be deleted now."""
        now = time.monotonic()
        if now < self._next_forgetting:
            return False
        self._next_forgetting = now + _FORGET_SECONDS
        return True

    async def close(self) -> None:
        """Close its connections."""
        await self._database.close()


async def waiting_in(app: AsyncApp, config: DatabaseConfig) -> Waiting | None:
    """What waits in a database; None if our tables are not there."""
    look = _Look(app, config)
    try:
        return await look.store.waiting() if await look.store.has_tables() else None
    finally:
        await look.close()


def _databases_of(app: AsyncApp) -> list[DatabaseConfig]:
    """The databases of the app's tasks, if anything was said about where they are."""
    return [
        provider.config
        for provider in app.resources.providers
        if isinstance(provider, DatabaseProvider)
        and is_configured(provider.config)
        and not is_in_memory(provider.config)
    ]
