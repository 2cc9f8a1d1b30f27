"""Publisher: publishes what the transactions of an event loop have committed."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Final
from weakref import WeakKeyDictionary

from celery.utils.log import get_logger

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.recorded import RecordedTemplates
from tomskit.celery._client.retrying import Outage, Retrying, pauses_of
from tomskit.celery._outbox.store import BATCH, Batch, OutboxStore
from tomskit.resources import background
from tomskit.sqlalchemy.config import DatabaseConfig
from tomskit.sqlalchemy.database import Database
from tomskit.sqlalchemy.rows import OutboxRow
from tomskit.urls import is_sqlite

__all__ = ("Publisher", "is_in_memory", "publisher_of")

logger: Final = get_logger(__name__)

_Key = tuple[int, int]
"""Of an app and of a database."""

_MOST: Final = 20_000
"""How many messages wait in memory. Others wait in the database, until they are due for any process."""

_CLOSING_SECONDS: Final = 5.0


class Publisher:
    """Publishes messages of an app in the background, those of many transactions in one write.

    While the broker is away, messages wait in the database only, and any process publishes them
    when it is back: this one as well, as there may be no worker that does.

    Attributes:
        loop: The event loop in which it publishes.
        task: Publishes, while there is anything.
        grace_ms: For how long after a commit nobody else publishes its messages.
        templates: Of the messages that are sent on commit in the event loop.

    Args:
        app: Whose messages they are.
        database: Whose transactions of the running loop write them.
        forget: Called when the database is closed in this loop.
    """

    def __init__(self, app: AsyncApp, database: Database, *, forget: Callable[[], object]) -> None:
        self._forget = forget
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._grace = grace_seconds(app)
        self.grace_ms: int = int(self._grace * 1000)
        self.templates: RecordedTemplates = RecordedTemplates(app)
        self._fresh: deque[OutboxRow] = deque()
        self._left = False
        self._left_due = 0.0
        self._later: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._has_given_up = False
        # Connections of its own: tasks may have taken all others, and wait for each other.
        self._own: Database | None = None if is_in_memory(database.config) else Database()
        if self._own is not None:
            self._own.open(database.config)
        self._store = OutboxStore(app, self._own or database)
        database.before_close(self._close)
        background.add(self)

    def hand_over(self, rows: Sequence[OutboxRow]) -> None:
        """Publish messages that are committed soon; in the loop."""
        if len(self._fresh) + len(rows) > _MOST:
            self._left = True
            # They are not due earlier, as it is not known when their commit ends.
            self._left_due = self.loop.time() + self._grace * 1.25
        else:
            self._fresh.extend(rows)
        self._begin()

    def _begin(self) -> None:
        if self.task is None and not self._closing.is_set():
            # In a context of its own: it is no part of the task that has committed.
            self.task = self.loop.create_task(self._run(), context=Context())

    async def _run(self) -> None:
        try:
            while self._fresh or (self._left and self.loop.time() >= self._left_due):
                away = await self._publish()
                if away is not None:
                    await self._publish_when_back(away)
            if self._left and self._later is None and not self._closing.is_set():
                self._later = self.loop.call_at(self._left_due, self._publish_left)
        except Exception as exc:
            self._fresh.clear()
            if self._closing.is_set():
                logger.warning(
                    "Cannot publish committed messages; a worker will publish them: %r", exc
                )
            else:
                logger.exception("Cannot publish committed messages; a worker will publish them")
        finally:
            self.task = None

    def _publish_left(self) -> None:
        self._later = None
        self._begin()

    async def _publish(self) -> Exception | None:
        """Publish some; returns why they were not, if the broker is away."""
        if not self._fresh:
            self._left = False
            batch = await self._store.publish_due()
            self._left = batch.size == BATCH
            return batch.away
        rows = [self._fresh.popleft() for _ in range(min(BATCH, len(self._fresh)))]
        batch = await self._store.publish(rows)
        if batch.taken or batch.refused:
            await self._settle(batch)
        return batch.away

    async def _settle(self, batch: Batch) -> None:
        retrying = Retrying(
            Outage(
                "delete published messages, which may be published again", "the database", logger
            ),
            is_away=lambda _: not self._closing.is_set(),
            pauses=pauses_of(interval_start=0.2, interval_step=0.3, interval_max=self._grace),
        )
        await retrying.run_async(lambda: self._store.settle(batch), self._pause)

    async def _publish_when_back(self, away: Exception) -> None:
        retrying = Retrying(
            Outage("publish committed messages", "the broker", logger),
            is_away=lambda _: not self._closing.is_set(),
            pauses=pauses_of(interval_start=0.5, interval_step=0.5, interval_max=self._grace),
        )
        self._left = True
        pause = retrying.failed(away)
        last_due = time.monotonic() + self._grace
        while not self._closing.is_set():
            await self._pause(pause)
            try:
                error = await self._publish()
            except Exception as exc:  # noqa: BLE001 (the database may be away as well)
                error = exc
            if error is not None:
                # What was committed meanwhile is in the database.
                self._fresh.clear()
                last_due = time.monotonic() + self._grace
                pause = retrying.failed(error)
                continue
            retrying.succeeded()
            if time.monotonic() > last_due + self._grace / 4 and not self._left:
                return
            self._left = True
            pause = 0 if self._fresh else self._grace / 4

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass

    async def finish(self) -> None:
        """Publish what is left, within 5 s; from here on what cannot be published is left to workers."""
        self._closing.set()
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._left and self.loop.time() < self._left_due:
            self._left = False
            logger.warning(
                "More than %d committed messages were waiting; a worker will publish the rest",
                _MOST,
            )
        if self._has_given_up:
            return
        try:
            async with asyncio.timeout(_CLOSING_SECONDS):
                if self.task is not None:
                    await asyncio.wait([self.task])
                while self._fresh and await self._publish() is None:
                    pass
        except Exception as exc:  # noqa: BLE001 (a worker publishes them)
            self._has_given_up = True
            logger.warning("Cannot publish committed messages; a worker will publish them: %r", exc)

    async def _close(self) -> None:
        """Publish what was committed since; before the engine of the loop is closed."""
        try:
            await self.finish()
        finally:
            self._forget()
            if self.task is not None:
                self.task.cancel()
            if self._own is not None:
                await self._own.close()


_publishers: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, Publisher]]] = (
    WeakKeyDictionary()
)


def publisher_of(app: AsyncApp, database: Database) -> Publisher:
    """The publisher of an app's messages in a database, in the running event loop."""
    mine = _publishers.setdefault(asyncio.get_running_loop(), {})
    key = id(app), id(database)
    known = mine.get(key)
    if known is None:
        known = mine[key] = Publisher(app, database, forget=lambda: mine.pop(key, None))
    return known


def grace_seconds(app: AsyncApp) -> float:
    """For how long after a commit only the process that has committed publishes its messages."""
    return app.config.CELERY_OUTBOX_INTERVAL / 3


def is_in_memory(config: DatabaseConfig) -> bool:
    """Whether each connection would have a database of its own."""
    return is_sqlite(config.SQLALCHEMY_DATABASE_URI_SCHEME) and config.DB_DATABASE in {
        "",
        ":memory:",
    }
